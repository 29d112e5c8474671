"""The command: wiring of an agent from settings, command line, demo, simulator and benchmarks."""
