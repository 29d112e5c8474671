"""Open files: every connection is one, and many systems allow 1,024 until a process asks for more.

Invariant: the limit is only ever raised.
"""

from __future__ import annotations

import resource

import structlog

log = structlog.get_logger(__name__)

OTHER_FILES = 512
"""For the database, objects, connections to the store and the HTTP port."""


def allow_connections(wanted: int) -> int:
    """Raise this process's limit of open files as far as `wanted` connections need it. Returns how many fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        if raised > soft:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
                soft = raised
            except (OSError, ValueError):  # macOS has a limit of its own below the one it tells
                pass
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    fit = max(soft - OTHER_FILES, 0)
    log.warning(
        "fewer connections fit than max_connections: raise the limit of open files (ulimit -n) or lower max_connections",
        max_connections=wanted,
        open_files=soft,
        fit=fit,
    )
    return fit
