"""Tests, conformance suites, simulations and benchmarks."""
