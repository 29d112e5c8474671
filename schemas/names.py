"""Names of topics and of the tables that mirror them. Pure.

`iceberg.table` defaults to `topics.<topic, dots and dashes as _>`. Table names are compared case-folded; names that
Iceberg engines keep for metadata tables can't be used; a clash is resolved with a short suffix of the topic's id.
"""

from __future__ import annotations

import re
from uuid import UUID

NAMESPACE = "topics"
TOPIC_NAME_MAX = 249
TABLE_NAME_MAX = 190
"""Characters of each level of a table's name: with its suffixes it fits a folder's name and the catalog's columns (255)."""
RESERVED_TABLES = frozenset(
    [
        "all_data_files",
        "all_delete_files",
        "all_entries",
        "all_files",
        "all_manifests",
        "data_files",
        "delete_files",
        "entries",
        "files",
        "history",
        "manifests",
        "metadata_log_entries",
        "partitions",
        "position_deletes",
        "properties",
        "refs",
        "snapshots",
    ]
)
KIND_SUFFIXES = {"main": "", "dlq": "__dlq", "history": "__history"}
"""Every topic reserves a name of each kind, so that a later change of its settings never meets a taken one."""

_TOPIC = re.compile(r"^[a-zA-Z0-9._-]+$")
_TABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*$")


class InvalidName(ValueError):
    """A name that can't be a topic's or a table's; the message says why."""


def check_topic_name(name: str) -> None:
    """Kafka's rules, in its words. Raises InvalidName."""
    if not name:
        raise InvalidName("the empty string is not allowed")
    if name in (".", ".."):
        raise InvalidName(f"'{name}' is not allowed")
    if len(name) > TOPIC_NAME_MAX:
        raise InvalidName(f"the length of '{name}' is longer than the max allowed length {TOPIC_NAME_MAX}")
    if not _TOPIC.match(name) or name.endswith("\n"):
        allowed = "ASCII alphanumerics, '.', '_' and '-'"
        raise InvalidName(f"'{name}' contains one or more characters other than {allowed}")


def default_table(topic: str) -> str:
    """The table a topic is mirrored into when nothing else was asked for."""
    return f"{NAMESPACE}.{topic.replace('.', '_').replace('-', '_')}"


def declared_table(value: str) -> str:
    """The full name that `iceberg.table` declares: in the namespace `topics` unless it names one. Raises InvalidName."""
    if not _TABLE.match(value) or value.endswith("\n"):
        raise InvalidName(f"table name {value!r} may hold only ASCII letters, digits and '_', with '.' between levels")
    name = value if "." in value else f"{NAMESPACE}.{value}"
    if is_reserved(name):
        raise InvalidName(f"table name {value!r} is kept by Iceberg for a metadata table")
    if is_too_long(name):
        raise InvalidName(f"a table name has at most {TABLE_NAME_MAX} characters, and so has its namespace")
    return name


def is_too_long(table: str) -> bool:
    """True where the name, or its namespace, can't be kept."""
    namespace, _, name = table.rpartition(".")
    return max(len(namespace), len(name)) > TABLE_NAME_MAX


def is_reserved(table: str) -> bool:
    """True where Iceberg engines would read the last level as a metadata table."""
    return fold(table).rsplit(".", 1)[-1] in RESERVED_TABLES


def with_suffix(table: str, topic_id: UUID) -> str:
    """A table name made unique by part of the topic's id, cut where it is too long."""
    return _suffixed(table, topic_id.hex[:8])


def with_long_suffix(table: str, topic_id: UUID) -> str:
    """The same with the whole id: unique for certain."""
    return _suffixed(table, topic_id.hex)


def _suffixed(table: str, suffix: str) -> str:
    namespace, _, name = table.rpartition(".")
    return f"{namespace}.{name[: TABLE_NAME_MAX - len(suffix) - 1]}_{suffix}"


def tables_of(table: str) -> dict[str, str]:
    """kind -> full name of all the tables that go with a main table."""
    return {kind: table + suffix for kind, suffix in KIND_SUFFIXES.items()}


def fold(table: str) -> str:
    """The form in which table names are compared."""
    return table.casefold()
