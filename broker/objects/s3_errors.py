"""What a failure of the S3 client means, told from its text: the client has one exception for most of them. Pure.

The decision that matters is on writes: which failures are certain to have had no effect (Unavailable, Refused), and
which may have landed (OutcomeUnknown). Whatever isn't known to be harmless counts as unknown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from broker.objects.port import (
    AlreadyExists,
    Corrupt,
    NotFound,
    ObjectStoreError,
    OutcomeUnknown,
    Refused,
    Unavailable,
)

_STATUS = re.compile(r"inner: Status \{\s*status: (\d{3})|non-2xx status code: (\d{3})")
_KIND = re.compile(r"HttpError \{\s*kind: (\w+)")
_WRONG_ANSWER = re.compile(r"UnexpectedEof|IncompleteBody|source: NotPartial|source: UnexpectedRange")
_BARE_REDIRECT = "BareRedirect"
"""A 301 without a place to go to: the bucket lives in another region."""
_SLOW_BODY = "RequestTimeout"
"""S3's 400 for a body that arrived too slowly; nothing was stored."""

THROTTLED = frozenset({408, 409, 425, 429, 503})
"""Refused before any effect: 409 is a conditional put that met another in flight."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known of a failed request: HTTP status (None when no answer came) and the transport's kind of failure."""

    status: int | None
    kind: str
    short: bool
    slow_body: bool


def failure_of(text: str) -> Failure:
    """Read the client's message (its debug part is the precise one)."""
    status = _STATUS.search(text)
    kind = _KIND.search(text)
    code = int(status[1] or status[2]) if status else None
    if code is None and _BARE_REDIRECT in text:
        code = 301
    return Failure(code, kind[1] if kind else "", bool(_WRONG_ANSWER.search(text)), _SLOW_BODY in text)


def read_error(key: str, text: str) -> ObjectStoreError:
    """The port's error for a failed GET, HEAD or LIST."""
    failure = failure_of(text)
    if failure.status == 404:
        return NotFound(key)
    if failure.status is not None:
        return _refused(key, failure, text) or Unavailable(f"reading {key}: {brief(text)}")
    if failure.short:
        return Corrupt(f"reading {key}, fewer bytes came than were announced: {brief(text)}")
    return Unavailable(f"reading {key}: {brief(text)}")


def write_error(key: str, text: str) -> ObjectStoreError:
    """The port's error for a failed PUT."""
    failure = failure_of(text)
    if failure.status == 412:
        return AlreadyExists(key)
    if failure.status in THROTTLED or (failure.status == 400 and failure.slow_body) or failure.kind == "Connect":
        return Unavailable(f"writing {key}: {brief(text)}")
    if failure.status == 404:
        return Refused(f"writing {key}: no such bucket, create it or name another: {brief(text)}")
    return _refused(key, failure, text) or OutcomeUnknown(f"writing {key}: {brief(text)}")


def _refused(key: str, failure: Failure, text: str) -> Refused | None:
    if failure.status is None or failure.status >= 500 or failure.status in THROTTLED or failure.slow_body:
        return None
    if failure.status in (401, 403):
        return Refused(f"{key}: access denied, check the store's credentials and the bucket's policy: {brief(text)}")
    return Refused(f"{key}: {brief(text)}")


def brief(text: str) -> str:
    """The message for people: without the debug part, on one line, bounded."""
    return " ".join(text.partition("Debug source")[0].split())[:300]
