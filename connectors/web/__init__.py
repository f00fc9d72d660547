"""The HTTP face: hooks in, and whether the host is well."""
