"""The documentation is held against the program: reference pages, commands of the README, and the glossary's house rules."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from neve.reference import PAGES

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", PAGES)
def test_reference_page_is_what_the_program_says(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == PAGES[name](), "run `make reference`"


def test_every_neve_command_in_the_readme_exists() -> None:
    commands = set(re.findall(r"neve ([a-z]+)(?: ([a-z]+))?", (ROOT / "README.md").read_text()))
    groups = {"topic", "segment", "fault"}
    for noun, verb in sorted(commands):
        if noun not in {"agent", "demo", "query", "verify", "settings", "simulate", "workload", *groups}:
            continue
        argv = [sys.executable, "-m", "neve", noun, *([verb] if noun in groups and verb else []), "--help"]
        assert subprocess.run(argv, capture_output=True, check=False).returncode == 0, argv


def test_every_make_target_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"`make ([a-z-]+)", page.read_text()):
            assert target in targets, f"{page.name}: make {target}"
