"""Deterministic simulation of a whole cluster: one seed decides order, latency, faults and workload."""
