"""Clients that do their worst to a host, each in a process of its own, while another cafe goes on selling.

`bench.attacks` measures what others notice of it; `tests.test_under_attack` holds that their sales become stamps.
"""
