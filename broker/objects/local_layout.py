"""Where a key lies below the local store's root. Pure.

A folder of segments grows without end, and big folders make every listing and many file systems slow, so segment names
are fanned out: `<sequence>-<16 hex>` lies in a folder named after the sequence without its last three characters, which
gathers 1,000 to 4,096 neighbours (and so costs one folder creation per that many puts). Everything else lies where its
key says, so that other programs may read tables through plain paths.

Invariant: path_of is injective and key_of undoes it.
"""

from __future__ import annotations

import re

from broker.objects.keys import InvalidKey

TEMPORARY = ".tmp"
"""The folder below the root where bytes wait for their name; no key."""
_SEGMENT = re.compile(r"((?:.+/)?segments/[^/]+/)(([0-9A-Za-z]*?)[0-9A-Za-z]{1,3}-[0-9a-f]{16})", re.DOTALL)
_FANNED = re.compile(r"((?:.+/)?segments/[^/]+/)~[0-9A-Za-z]*/([^/]+)", re.DOTALL)


def path_of(key: str) -> str:
    """The path below the root of a checked key. InvalidKey for the few keys that would look like the store's own folders."""
    segment = _SEGMENT.fullmatch(key)
    if segment:
        return f"{segment[1]}~{segment[3]}/{segment[2]}"
    if _FANNED.fullmatch(key) or key.partition("/")[0] == TEMPORARY:
        raise InvalidKey(f"the object key {key!r} looks like a folder that the local store keeps for itself")
    return key


def key_of(path: str) -> str:
    """The key of a path below the root."""
    fanned = _FANNED.fullmatch(path)
    return fanned[1] + fanned[2] if fanned else path
