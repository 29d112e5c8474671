"""The tables of docs/benchmarks.md, written between their markers from docs/benchmarks/*.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

BEGIN = "<!-- broker figures: written by make bench -->"
END = "<!-- end of broker figures -->"


def cell(found: dict[str, float], digits: int = 2) -> str:
    """`median ratio [lower quartile - upper quartile] (left | right)`."""
    if not found:
        return ""
    return (
        f"{found['ratio']:.2f} [{found['lower']:.2f}-{found['upper']:.2f}] "
        f"({found['left']:.{digits}f} / {found['right']:.{digits}f})"
    )


def null_cell(entry: dict[str, Any], key: str) -> str:
    """The range of the same ratio between two identical Kafkas."""
    found = entry.get("null", {}).get(key)
    return f"{found['least']:.2f}-{found['most']:.2f}" if found else ""


def broker_table(results: dict[str, Any]) -> str:
    """The table of the cases against Kafka."""
    lines = [
        f"Machine: {results.get('machine', '')}. Ratios are Neve / Kafka, paired: median [quartiles] (medians of Neve / Kafka).",
        "",
        "| case | MB/s | null MB/s | CPU s/GiB | null CPU | p50 ms | p99 ms | pairs, date |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in sorted(results["cases"].items()):
        against = entry["against"]
        lines.append(
            f"| ({name}) {entry['what']} | {cell(against['mb_s'], 0)} | {null_cell(entry, 'mb_s')} "
            f"| {cell(against['cpu_s_per_gib'])} | {null_cell(entry, 'cpu_s_per_gib')} "
            f"| {cell(against.get('p50_ms', {}))} | {cell(against.get('p99_ms', {}))} | {entry['pairs']}, {entry['date']} |"
        )
        if "fsync" in entry:
            fsync = entry["fsync"]
            lines.append(
                f"| ({name}) Neve with fsync=always, its default; Kafka doesn't flush | | | | "
                f"| {cell(fsync.get('p50_ms', {}))} | {cell(fsync.get('p99_ms', {}))} | {entry['pairs']}, {entry['date']} |"
            )
    return "\n".join(lines)


def write_report(results: dict[str, Any], path: Path) -> None:
    """Replace the marked part of the page."""
    page = path.read_text() if path.exists() else f"# Benchmarks\n\n{BEGIN}\n{END}\n"
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{broker_table(results)}\n{END}{after}")
