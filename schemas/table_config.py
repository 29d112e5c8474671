"""Checks of the values of `iceberg.*` topic configs that are more than a word or a number. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from schemas.columns import parse_columns

_PARTITION_FIELD = re.compile(
    r"^(?:[A-Za-z_]\w*|(?:year|month|day|hour)\([A-Za-z_]\w*\)|(?:bucket|truncate)\([1-9]\d{0,8}\s*,\s*[A-Za-z_]\w*\))$",
    re.ASCII,
)
_MILLISECONDS = re.compile(r"^\d{1,18}$", re.ASCII)


def check_columns(value: str) -> None:
    """Raises ValueError where `iceberg.columns` can't be parsed."""
    parse_columns(value)


def check_partition_by(value: str) -> None:
    """Fields by comma: a column, year|month|day|hour(column), bucket(n, column), truncate(n, column)."""
    for field in re.split(r",(?![^(]*\))", value):
        if not _PARTITION_FIELD.match(field.strip()):
            raise ValueError(
                f"{field.strip()!r} is no partition field: want column, year(column), month(column), day(column), "
                "hour(column), bucket(n, column) or truncate(n, column) with n from 1 on"
            )


def parse_start(value: str) -> str | int:
    """`earliest`, `latest`, or Unix milliseconds (also given as ISO 8601, in UTC unless it says otherwise)."""
    if value in ("earliest", "latest"):
        return value
    if _MILLISECONDS.match(value):
        return int(value)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("want earliest, latest, Unix milliseconds or an ISO 8601 timestamp") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def check_start(value: str) -> None:
    """Raises ValueError where `iceberg.start` says nothing."""
    parse_start(value)


def check_retention(value: str) -> None:
    """`forever`, `follow`, or milliseconds."""
    if value not in ("forever", "follow") and not (_MILLISECONDS.match(value) and int(value) > 0):
        raise ValueError("want forever, follow or milliseconds")
