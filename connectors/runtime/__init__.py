"""When work is due, and where it runs."""
