"""Which object keys there are, and what "below a prefix" means. Pure.

Invariant: a key accepted here means the same object in every implementation: on a file system it can't leave the root,
on S3 it can't be normalised into another key.
"""

from __future__ import annotations

from broker.objects.port import ObjectStoreError

KEY_BYTES_MAX = 1024
"""S3's bound on a key's UTF-8 length; the store's own prefix counts too, so it is generous."""
SEGMENT_BYTES_MAX = 255
"""File systems' usual bound on one name."""


class InvalidKey(ObjectStoreError, ValueError):
    """A key no store takes; a bug of the caller."""


def check_key(key: str) -> str:
    """`key` itself, or InvalidKey: empty, absolute, with `.` or `..` or empty segments, control characters, or too long."""
    if key.isascii() and key.isprintable():
        encoded_bytes = len(key)
    else:
        if any(character < " " or character == "\x7f" for character in key):
            raise InvalidKey(f"the object key {key!r} holds a control character")
        try:
            encoded_bytes = len(key.encode())
        except UnicodeEncodeError:
            raise InvalidKey(f"the object key {key!r} is not valid Unicode") from None
    if not 0 < encoded_bytes <= KEY_BYTES_MAX:
        raise InvalidKey(f"an object key has 1 to {KEY_BYTES_MAX} bytes, {key!r} has {encoded_bytes}")
    for segment in key.split("/"):
        if segment in ("", ".", ".."):
            raise InvalidKey(f"the object key {key!r} holds the segment {segment!r}")
        if len(segment) > SEGMENT_BYTES_MAX // 4 and len(segment.encode()) > SEGMENT_BYTES_MAX:
            raise InvalidKey(f"a segment of an object key has at most {SEGMENT_BYTES_MAX} bytes: {key!r}")
    return key


def folder_of(prefix: str) -> str:
    """A listing prefix as whole segments with a trailing slash: `a/b` and `a/b/` are both below `a/b/`; "" is the root.

    Prefixes are never parts of a segment: `a/b` does not list `a/bc`.
    """
    stripped = prefix.removesuffix("/")
    return f"{check_key(stripped)}/" if stripped else ""
