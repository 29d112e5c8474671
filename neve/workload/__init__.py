"""`neve workload`: writers and readers that know every message, against any running cluster, judged by the simulation's checker."""
