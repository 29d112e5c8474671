"""Zones of clients, and how partitions are spread over the agents told: the pure parts."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.kafka.leaders import REMEMBERED, Leaders, leaders_of
from broker.kafka.zones import KEYS, agents_of, zone_in
from broker.services import BrokerView

AGENTS = [BrokerView(n, "h", n, zone) for n, zone in ((1, "eu-1a"), (2, "eu-1b"), (4, "eu-1a"), (5, ""), (7, "eu"))]
BROKER_IDS = st.sets(st.integers(0, 2**31 - 1), min_size=2, max_size=9).map(sorted)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "form", ["{}", "app,{}", "app;{}", "app|{}", "{},app", "a=b&{}&c=d", "my app {}", "x=1;{}|z=2"]
)
def test_the_zone_of_a_client_id(key: str, form: str) -> None:
    assert zone_in(form.format(f"{key}=eu-1a")) == "eu-1a"


@pytest.mark.parametrize("client_id", ["", "app", "zone", "zone=", "zone=,app", "ozone=a", "app-zone=a", "my_az=a", "ZONE=a", "zone==a"])  # fmt: skip
def test_client_ids_that_name_no_zone(client_id: str) -> None:
    assert zone_in(client_id) == ""


def test_the_first_of_several_zones_counts() -> None:
    assert zone_in("zone=,az=b;ws_az=c") == "b"
    assert zone_in("diskless_az=b,zone=a") == "b"


@pytest.mark.parametrize(
    ("zone", "broker_ids"),
    [
        ("eu-1a", [1, 4]),
        ("eu-1b", [2]),
        ("eu", [7]),
        ("eu-1a-StreamThread-1-consumer", [1, 4]),
        ("eu-2", [7]),
        ("us", [1, 2, 4, 5, 7]),
        ("eu-1", [7]),
        ("", [1, 2, 4, 5, 7]),
    ],
)
def test_the_agents_of_a_zone_or_all(zone: str, broker_ids: list[int]) -> None:
    assert [broker.broker_id for broker in agents_of(zone, AGENTS)] == broker_ids


@settings(deadline=None)
@given(BROKER_IDS, st.uuids(), st.data())
def test_an_agent_that_leaves_moves_its_own_partitions_alone(
    broker_ids: list[int], topic: UUID, data: st.DataObject
) -> None:
    """And so one that joins takes some from everybody, and moves nothing between the others."""
    gone = data.draw(st.sampled_from(broker_ids))
    before = leaders_of(topic, 200, broker_ids)
    after = leaders_of(topic, 200, [broker_id for broker_id in broker_ids if broker_id != gone])
    assert [now for was, now in zip(before, after, strict=True) if was != gone] == [
        was for was in before if was != gone
    ]
    assert gone not in after


@settings(deadline=None)
@given(BROKER_IDS, st.uuids())
def test_each_agent_has_about_its_share(broker_ids: list[int], topic: UUID) -> None:
    leaders = leaders_of(topic, 1_000, broker_ids)
    share = 1_000 / len(broker_ids)
    for broker_id in broker_ids:
        # six standard deviations of a fair draw
        assert abs(leaders.count(broker_id) - share) < 6 * (share * (1 - 1 / len(broker_ids))) ** 0.5


@settings(deadline=None)
@given(BROKER_IDS, st.uuids())
def test_leaders_depend_on_who_is_there_alone(broker_ids: list[int], topic: UUID) -> None:
    assert leaders_of(topic, 50, broker_ids) == leaders_of(topic, 50, broker_ids[::-1])
    assert leaders_of(topic, 20, broker_ids) == leaders_of(topic, 50, broker_ids)[:20]


def test_leaders_are_remembered_for_each_set_of_agents() -> None:
    leaders, topic = Leaders(), UUID(int=5)
    found = {ids: leaders.of(topic, 30, ids) for ids in ((1, 2), (3,), (1, 2, 3))}
    for ids, told in found.items():
        assert leaders.of(topic, 30, ids) is told
        assert told == leaders_of(topic, 30, ids)
    for number in range(REMEMBERED):
        leaders.of(UUID(int=number), 1, (1,))
    assert leaders.of(topic, 30, (1, 2)) == found[1, 2]
    assert leaders.of(topic, 30, (1, 2)) is not found[1, 2]
