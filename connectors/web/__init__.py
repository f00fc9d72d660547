"""The HTTP face of a host: hooks of tills, the console, and probes of whether the host is well."""
