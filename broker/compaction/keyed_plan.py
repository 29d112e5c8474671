"""Whether a log is to be compacted by key now. Pure.

As Kafka decides (`LogCleanerManager`), with extents in place of segments: what may be compacted makes up more than
min.cleanable.dirty.ratio of the log, or some of it has waited for max.compaction.lag.ms. What is younger than
min.compaction.lag.ms, the newest data (`key_compaction_tail_ms` in place of Kafka's active segment), and what isn't in the
topic's tables yet, stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from catalog.key_cleaning import Dirt
from schemas.config_types import split_list
from schemas.topic_config import value_of


class KeyPolicy(NamedTuple):
    """What a topic's configs say about compaction. Times in ms."""

    lag_min_ms: int
    lag_max_ms: int
    dirty_ratio_min: float
    delete_retention_ms: int


def key_policy_of(config: Mapping[str, str], broker: Mapping[str, str]) -> KeyPolicy | None:
    """None where the topic isn't compacted by key."""
    if "compact" not in split_list(value_of("cleanup.policy", config, broker)):
        return None
    return KeyPolicy(
        int(value_of("min.compaction.lag.ms", config, broker)),
        int(value_of("max.compaction.lag.ms", config, broker)),
        float(value_of("min.cleanable.dirty.ratio", config, broker)),
        int(value_of("delete.retention.ms", config, broker)),
    )


def dirty_ratio(dirt: Dirt) -> float:
    """Share of what may be compacted now in all that is or may be; 0 where there is nothing."""
    total = dirt.clean_bytes + dirt.cleanable_bytes
    return dirt.cleanable_bytes / total if total else 0.0


def is_due(dirt: Dirt, policy: KeyPolicy) -> bool:
    """True where a round is worth while, or due whatever it costs."""
    if dirt.cleanable_bytes <= 0 or dirt.cleanable_next <= dirt.dirty_first:
        return False
    if dirty_ratio(dirt) > policy.dirty_ratio_min:
        return True
    since = dirt.dirty_since_ms
    return since is not None and 0 < since < dirt.now_ms - policy.lag_max_ms
