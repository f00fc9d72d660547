"""When work is due, where it runs, and the host that puts all parts together."""
