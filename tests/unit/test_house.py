"""The house rules: imports run one way, broker processes stay light, pure modules stay pure, every module says what it is for."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("schemas", "catalog", "broker", "lakehouse", "neve")
NEVER_IN_A_BROKER = ("pyarrow", "pyiceberg", "duckdb", "numba", "numpy", "sqlalchemy", "pandas")
PURE_FILES = (
    "catalog/sequence.py",
    "broker/ingest/accumulator.py",
    "broker/ingest/flush_policy.py",
    "broker/fetch/tail_index.py",
    "broker/fetch/planner.py",
    *(
        f"broker/groups/{name}.py"
        for name in (
            "classic",
            "group",
            "join",
            "rebalance",
            "replace",
            "requests",
            "retention",
            "slots",
            "states",
            "stored",
            "subscription",
            "timers",
            "validate",
            "without_group",
        )
    ),
)
IMPURE = ("asyncio", "socket", "time", "random", "secrets", "threading", "concurrent", "subprocess")
GENERATED = ("segment_pb2.py",)


def modules() -> list[Path]:
    return [
        path
        for layer in LAYERS
        for path in sorted((ROOT / layer).rglob("*.py"))
        if path.name not in GENERATED and "__pycache__" not in path.parts
    ]


def imported(path: Path) -> set[str]:
    """Top-level names that a module imports anywhere, except under TYPE_CHECKING."""
    found: set[str] = set()
    skipped: set[ast.AST] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            skipped.update(inner for child in node.body for inner in ast.walk(child))
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_module_says_what_it_is_for_and_imports_downwards(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "module docstring missing"
    layer = LAYERS.index(path.relative_to(ROOT).parts[0])
    above = set(LAYERS[layer + 1 :]) & imported(path)
    assert not above, f"{path} imports {sorted(above)}, which lie above it"
    assert "tests" not in imported(path)


def pure_modules() -> list[Path]:
    return [path for path in modules() if path.relative_to(ROOT).parts[0] == "schemas"] + [
        ROOT / name for name in PURE_FILES
    ]


@pytest.mark.parametrize("path", pure_modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_pure_module_knows_no_loop_socket_clock_or_chance(path: Path) -> None:
    assert not imported(path) & set(IMPURE)


def loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(answer.stdout.split())


def test_a_broker_process_loads_no_table_engine() -> None:
    names = " ".join(
        "import " + ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") + "\n"
        for layer in ("schemas", "catalog", "broker")
        for path in sorted((ROOT / layer).rglob("*.py"))
        if "sql_catalog" not in path.name and "__pycache__" not in path.parts
    ).replace("\n ", "\n")
    loaded = loaded_by(names + "import neve.run_agent")
    assert not loaded & set(NEVER_IN_A_BROKER), sorted(loaded & set(NEVER_IN_A_BROKER))
    assert "lakehouse" not in loaded


@pytest.mark.parametrize("command", ["", "topic", "agent"])
def test_help_loads_nothing_heavy(command: str) -> None:
    heavy = {*NEVER_IN_A_BROKER, "asyncpg", "obstore", "kio", "uvicorn", "starlette", "lakehouse", "neve.load_settings"}
    slow = {"rich", "asyncio", "ssl", "pydantic"} if not command else {"rich"}  # typer takes pydantic for typed options
    code = "import sys\nfrom neve.cli.app import app\napp(standalone_mode=False)\nprint('LOADED', *sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code, *command.split(), "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    shown, _, loaded = answer.stdout.partition("LOADED")
    assert "Usage:" in shown
    assert "neve.cli.app" in loaded.split()
    assert not {*heavy, *slow}.intersection(loaded.split())
