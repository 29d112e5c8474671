"""Which Kafka APIs are served: one decorator per API module registers, advertises and documents it.

ApiVersions answers from this table, the connection refuses whatever is not in it, and the documentation's table of APIs
is made from it, with the versions and deviations that each module's docstring states. Nothing is advertised that isn't
registered here.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from broker.kafka.call import Buffers, Call, Handler
from schemas.kafka.api_keys import NEVER, ApiKey

MODULES = (
    "p00_produce",
    "p01_fetch",
    "p02_list_offsets",
    "p03_metadata",
    "p08_offset_commit",
    "p09_offset_fetch",
    "p10_find_coordinator",
    "p11_join_group",
    "p12_heartbeat",
    "p13_leave_group",
    "p14_sync_group",
    "p15_describe_groups",
    "p16_list_groups",
    "p18_api_versions",
    "p19_create_topics",
    "p20_delete_topics",
    "p21_delete_records",
    "p22_init_producer_id",
    "p23_offset_for_leader_epoch",
    "p29_describe_acls",
    "p30_create_acls",
    "p31_delete_acls",
    "p32_describe_configs",
    "p33_alter_configs",
    "p34_alter_replica_log_dirs",
    "p35_describe_log_dirs",
    "p38_create_delegation_token",
    "p39_renew_delegation_token",
    "p40_expire_delegation_token",
    "p41_describe_delegation_token",
    "p37_create_partitions",
    "p42_delete_groups",
    "p44_incremental_alter_configs",
    "p43_elect_leaders",
    "p45_alter_partition_reassignments",
    "p46_list_partition_reassignments",
    "p47_offset_delete",
    "p48_describe_client_quotas",
    "p49_alter_client_quotas",
    "p50_describe_user_scram_credentials",
    "p51_alter_user_scram_credentials",
    "p55_describe_quorum",
    "p57_update_features",
    "p60_describe_cluster",
    "p74_list_config_resources",
    "p75_describe_topic_partitions",
    "p61_describe_producers",
    "p64_unregister_broker",
    "p65_describe_transactions",
    "p66_list_transactions",
)
Fail = Callable[[Call, int], Buffers]


@dataclass(frozen=True, slots=True)
class Api:
    """One served API."""

    key: int
    name: str
    version_min: int
    version_max: int
    advertised_min: int
    """What ApiVersions tells; below `version_min` where clients draw conclusions from the number alone."""
    flexible_from: int
    """First version with flexible headers (KIP-482)."""
    overlaps: bool
    """True where the next request of the connection may start before this one is answered."""
    handle: Handler
    fail: Fail
    """The response that carries one error code wherever it has room."""
    module: str
    tagged_response_from: int
    """First version whose response header has tagged fields: `flexible_from`, never for ApiVersions."""
    interruptible: bool
    """True for a long poll, which may be ended without an answer when the connection or the agent goes."""


@dataclass(frozen=True, slots=True)
class ApiRow:
    """One row of the documentation's table. `deviations` are the sentences below `Deviations:` in the module docstring."""

    key: int
    name: str
    versions: str
    summary: str
    deviations: tuple[str, ...]


_REGISTERED: dict[int, Api] = {}


def serve(
    key: ApiKey,
    *,
    versions: tuple[int, int],
    fail: Fail,
    advertised_min: int | None = None,
    overlaps: bool = False,
    interruptible: bool = False,
) -> Callable[[Handler], Handler]:
    """Register a handler. Versions are inclusive. Registering a key twice is a mistake of ours and raises."""

    def register(handle: Handler) -> Handler:
        if key in _REGISTERED:
            raise ValueError(f"API {key} is registered twice")
        low, high = versions
        advertised = low if advertised_min is None else advertised_min
        _REGISTERED[key] = Api(
            key=int(key),
            name="".join(word.capitalize() for word in key.name.split("_")),
            version_min=low,
            version_max=high,
            advertised_min=advertised,
            flexible_from=key.flexible_from,
            overlaps=overlaps,
            handle=handle,
            fail=fail,
            module=str(handle.__module__),
            tagged_response_from=NEVER if key is ApiKey.API_VERSIONS else key.flexible_from,
            interruptible=interruptible,
        )
        return handle

    return register


def served_apis() -> Mapping[int, Api]:
    """Every served API by its key, ascending; imports the API modules at the first call."""
    for module in MODULES:
        importlib.import_module(f"broker.kafka.api.{module}")
    return MappingProxyType(dict(sorted(_REGISTERED.items())))


def api_rows() -> list[ApiRow]:
    """The documentation's table, from the registry and the API modules' docstrings."""
    return [_row(api) for api in served_apis().values()]


def _row(api: Api) -> ApiRow:
    text = inspect.cleandoc(sys.modules[api.module].__doc__ or "")
    summary = text.partition("\n\n")[0].replace("\n", " ")
    _, _, below = text.partition("Deviations:\n")
    deviations: list[str] = []
    for line in below.partition("\n\n")[0].splitlines():
        if line.startswith("- "):
            deviations.append(line[2:].strip())
        elif deviations:
            deviations[-1] += " " + line.strip()
    versions = f"{api.version_min}–{api.version_max}"
    if api.advertised_min != api.version_min:
        versions += f" (advertised from {api.advertised_min})"
    return ApiRow(api.key, api.name, versions, summary, tuple(deviations))
