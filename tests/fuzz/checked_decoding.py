"""Hostile batches and damaged JSON through compiled code that raises at every access outside its arrays.

    NEVE_JIT_CHECKED=1 python -m tests.fuzz.checked_decoding [SEED [ROUNDS]]

Prints how much was taken and refused. An IndexError here is a check that is missing in the code.
"""

from __future__ import annotations

import json
import random
import sys

import numpy as np

from lakehouse.compiled import CHECKED
from lakehouse.decode import StoredRun, decode_runs
from lakehouse.parse_json import JsonParser
from lakehouse.rows import RowBuilder
from schemas.columns import parse_columns
from schemas.kafka.batch import read_header
from tests.unit.test_decode import hostile_batches, mutated
from tests.unit.test_parse_json_strict import ALL_TYPES

DOCUMENT = {
    "b": True,
    "i": -5,
    "l": 2**60,
    "f": 0.5,
    "d": 0.30000000000000004,
    "m": "12.34",
    "w": 1.5,
    "day": "2024-02-29",
    "clock": "10:20:30.123456789",
    "at": "2024-02-29T10:20:30",
    "tz": "2024-02-29T10:20:30.5+01:00",
    "s": 'é\U0001f600"\n',
    "raw": "AAE=",
    "u": "00112233-4455-6677-8899-aabbccddeeff",
    "j": {"x": [1, {"y": None}], "z": "\\"},
    "o": {"x": 1, "p": {"y": "text"}},
    "other": [1.5e3, True, "\\u00e9"],
}


def fuzz_batches(seed: int, count: int) -> tuple[int, int]:
    """(rows decoded, batches refused)."""
    builder = RowBuilder()
    rows = refused = 0
    for batch in hostile_batches(seed, count):
        run = StoredRun(0, 0, read_header(batch).last_offset_delta + 1, batch)
        for chunk in decode_runs([run]):
            built = builder.build(chunk)
            rows += built.main.num_rows
            refused += len(chunk.broken)
    return rows, refused


def fuzz_documents(seed: int, count: int) -> tuple[int, int]:
    """(documents taken, documents refused). Each document ends where its slab ends, so reading on is seen."""
    rng = random.Random(seed)
    parser = JsonParser(parse_columns(ALL_TYPES))
    taken = refused = 0
    for _ in range(count):
        members = [member for member in DOCUMENT.items() if rng.random() < 0.7]
        rng.shuffle(members)
        document = json.dumps(dict(members), ensure_ascii=rng.random() < 0.5).encode()
        document = mutated(document, rng)[: rng.choice([None, rng.randrange(len(document) + 1)])]
        slab = np.frombuffer(document, dtype=np.uint8)
        parsed = parser.parse(slab, np.array([[0, len(document)]], dtype=np.int32))
        refused += len(parsed.rejected)
        taken += 1 - len(parsed.rejected)
    return taken, refused


def main() -> None:
    """Run both and print what happened; ends with an error where places are not checked."""
    if not CHECKED:
        raise SystemExit("set NEVE_JIT_CHECKED=1: without it nothing is checked")
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3000
    rows, broken = fuzz_batches(seed, rounds)
    taken, refused = fuzz_documents(seed, rounds)
    print(json.dumps({"rows": rows, "broken": broken, "taken": taken, "refused": refused}))


if __name__ == "__main__":
    main()
