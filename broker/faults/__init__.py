"""Faults on purpose: which strike where, and the wrappers of store, database and connections that let them."""
