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


LAKE_BEGIN = "<!-- lake figures: written by make bench-lake -->"
LAKE_END = "<!-- end of lake figures -->"


def lake_table(results: dict[str, Any]) -> str:
    """The table of the export cases."""
    lines = [
        f"Machine: {results.get('machine', '')}. Whole runs, start-up and compiled code's loading included.",
        "",
        "| case | log | rows/s | MiB/s of log | CPU s | peak memory MiB | date |",
        "|---|---|---|---|---|---|---|",
    ]
    names = {
        "flights": "flights as JSON, 19 declared columns",
        "raw100": "raw, 100-byte records",
        "raw1k": "raw, 1 KiB records",
    }
    lines += [
        f"| {names[name]} | {found['gib']:g} GiB | {found['rows_s_in_all']:,.0f} | {found['mib_s_in_all']:.0f} "
        f"| {found['cpu_s_in_all']:.1f} | {found['peak_rss_mib']:.0f} | {found['date']} |"
        for name, found in results["cases"].items()
    ]
    return "\n".join(lines)


MANY_BEGIN = "<!-- many figures: written by make bench-many -->"
MANY_END = "<!-- end of many figures -->"


def many_table(results: dict[str, Any]) -> str:
    """The table of many connections, Neve beside Kafka."""
    neve, kafka = results["neve"], results["kafka"]
    rows = [
        (f"memory of one of {neve['idle']:,} idle connections, KiB", "idle_bytes_each", 1024, 1),
        ("seconds to open them, 50 at a time", "idle_seconds", 1, 1),
        ("CPU while they are idle, share of a core", "idle_cpu_share", 1, 3),
        (f"memory of one of {neve['active']} active connections beside them, KiB", "active_bytes_each", 1024, 1),
        ("1 KiB Produce requests of half of these, per s", "produce_per_s", 1, 0),
        ("Produce p50, ms", "p50_ms", 1, 1),
        ("Produce p99, ms", "p99_ms", 1, 1),
        ("connections opened and closed beside all of them, per s", "churn_per_s", 1, 0),
        ("memory that stayed after that, MiB", "churn_left_bytes", 2**20, 1),
        (f"Metadata of {results['partitions']:,} partitions p50, ms", "metadata_p50_ms", 1, 2),
        (f"Metadata of {results['partitions']:,} partitions p99, ms", "metadata_p99_ms", 1, 2),
    ]
    lines = [
        f"Machine: {results['machine']}; {results['date']}.",
        "",
        "| what | Neve | Kafka |",
        "|---|---|---|",
    ]
    lines += [
        f"| {what} | {neve[key] / unit:,.{digits}f} | {kafka[key] / unit:,.{digits}f} |"
        for what, key, unit, digits in rows
    ]
    return "\n".join(lines)


def write_many(results: dict[str, Any], path: Path) -> None:
    """Replace the marked part of the page with the figures of many connections."""
    _replace(path, MANY_BEGIN, MANY_END, many_table(results))


def write_lake_report(results: dict[str, Any], path: Path) -> None:
    """Replace the marked part of the page with the export figures."""
    _replace(path, LAKE_BEGIN, LAKE_END, lake_table(results))


def write_report(results: dict[str, Any], path: Path) -> None:
    """Replace the marked part of the page with the broker figures."""
    _replace(path, BEGIN, END, broker_table(results))


def _replace(path: Path, begin: str, end: str, table: str) -> None:
    page = path.read_text() if path.exists() else "# Benchmarks\n"
    if begin not in page:
        page += f"\n{begin}\n{end}\n"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n{table}\n{end}{after}")
