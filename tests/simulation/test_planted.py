"""Every planted bug still applies to the code as it is; whether each is found is the job of tests/planted/run.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from neve.simulation.checker import RULES
from neve.simulation.group_rules import GROUP_RULES
from neve.simulation.invariants import INVARIANTS
from neve.simulation.profiles import PROFILES
from tests.planted.run import ROOT, Planted, bugs, plant

ALWAYS = [
    "acknowledge_before_commit",
    "already_exists_trusted",
    "group_generation_not_checked",
    "group_parked_join_forgotten",
    "group_slot_epoch_not_checked",
    "no_epoch_check",
    "retry_not_idempotent",
    "served_over_a_gap",
    "stale_high_watermark",
]


def test_these_bugs_are_there() -> None:
    assert [bug.path.stem for bug in bugs([]) if bug.path.stem in ALWAYS] == ALWAYS


@pytest.mark.parametrize("bug", bugs([]), ids=lambda bug: bug.path.stem)
def test_a_planted_bug_applies_and_names_what_exists(bug: Planted, tmp_path: Path) -> None:
    assert plant(bug, tmp_path) is None
    if bug.test:
        source = (ROOT / bug.test).read_text()
        assert all(f"def {name}(" in source for name in bug.rules.split(","))
        return
    assert bug.profile in PROFILES
    assert all(rule in (*RULES, *GROUP_RULES, *INVARIANTS) for rule in bug.rules.split(","))


def test_a_patch_that_does_not_apply_is_reported(tmp_path: Path) -> None:
    bug = bugs(["no_epoch_check"])[0]
    stale = tmp_path / "stale.patch"
    stale.write_text(bug.path.read_text().replace("epoch-lost", "epoch-gone"))
    problem = plant(Planted.read(stale), tmp_path / "tree")
    assert problem is not None
    assert "doesn't apply" in problem
