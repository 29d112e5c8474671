"""Run seeds of one profile until a finding of an expected rule turns up: 0 when it did, 1 when it never did.

Started by tests/planted/run.py with PYTHONPATH pointing at the patched copy. `PROFILE RULES SEEDS`, rules by comma.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path


def main(profile: str, rules: list[str], seeds: int) -> int:
    """Hunt, and say what was found where."""
    import neve.simulation.run as simulation

    print(f"simulating {Path(simulation.__file__).parents[2]}")
    for seed in range(1, seeds + 1):
        result = simulation.run_seed(seed, profile)
        for rule, text in result.findings:
            if rule in rules:
                print(f"found by {rule} at seed {seed}: {text.splitlines()[-1]}")
                return 0
        gc.collect()
    print(f"not found in {seeds} seeds of profile {profile}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2].split(","), int(sys.argv[3])))
