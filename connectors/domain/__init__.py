"""Pure decisions on values, without I/O: what a sale earns, what is to be planned, states, holds, pauses, alerts."""
