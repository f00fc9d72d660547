"""What a sale earns and what is still to be done about it: pure decisions on values, no I/O."""
