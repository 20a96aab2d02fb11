"""The keeper's thread against real sockets on loopback. Waits are for events: a noisy machine makes them longer."""

import os
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

import pytest

from tenure.base.errors import Invalid
from tenure.client.events import (
    Closed,
    Connected,
    Demanded,
    Disconnected,
    Ended,
    Event,
    Granted,
    Rejected,
    Renewed,
    SessionLost,
    Waiting,
)
from tenure.client.thread import Keeper
from tests.client.cluster import Cluster, Member, members

E = TypeVar("E", bound=Event)
PATIENCE = 30.0
TTL_MS = 60_000
"""Long, so that a slow machine never ends a lease that a story needs; renewals are then hastened by hints."""


class Heard(Keeper):
    """A keeper whose events are looked through one by one."""

    left: "deque[Event]"


def until(keeper: Heard, kind: type[E], when: Callable[[E], bool] = lambda _: True) -> E:
    """The next event of this kind; fails with what came instead."""
    seen: list[Event] = []
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        keeper.left.extend(() if keeper.left else keeper.wait(0.5))
        while keeper.left:
            event = keeper.left.popleft()
            seen.append(event)
            if isinstance(event, kind) and when(event):
                return event
    pytest.fail(f"no {kind.__name__} among {seen}")


def keeper_of(*listed: Member, node: str = "a", ttl_ms: int = TTL_MS, secret: str | None = None) -> Heard:
    return heard([member.endpoint for member in listed], node, ttl_ms, secret)


def heard(endpoints: list[str], node: str = "a", ttl_ms: int = TTL_MS, secret: str | None = None) -> Heard:
    keeper = Heard(endpoints, node=node, ttl_ms=ttl_ms, secret=secret)
    keeper.left = deque()
    keeper.start()
    return keeper


def test_it_connects_campaigns_and_is_granted_by_an_acknowledgement() -> None:
    with members(1) as (cluster, (m1,)):
        keeper = keeper_of(m1)
        keeper.campaign("orders")
        granted = until(keeper, Granted)
        assert granted.term == cluster.terms
        assert keeper.valid_until("orders") is not None
        assert keeper.remaining_us("orders", granted.term) > 0
        assert keeper.remaining_us("orders", granted.term - 1) == 0
        assert keeper.endpoint() == m1.endpoint
        assert keeper.close(PATIENCE)
        assert cluster.sessions == {}


def test_the_descriptor_is_readable_exactly_while_events_wait() -> None:
    with members(1) as (_, (m1,)):
        keeper = keeper_of(m1)
        assert select.select([keeper], [], [], PATIENCE)[0] == [keeper]
        until(keeper, Connected)
        keeper.close(PATIENCE)
        keeper.events()
        assert select.select([keeper], [], [], 0)[0] == []


def test_when_its_member_dies_it_moves_and_the_lease_goes_on() -> None:
    with members(2) as (_, (m1, m2)):
        keeper = keeper_of(m1, m2)
        keeper.campaign("orders")
        granted = until(keeper, Granted)
        first = keeper.endpoint()
        dead, other = (m1, m2) if first == m1.endpoint else (m2, m1)
        dead.die()
        until(keeper, Disconnected)
        assert until(keeper, Connected).endpoint == other.endpoint
        renewed = until(keeper, Renewed)
        assert renewed.term == granted.term
        assert renewed.valid_until > granted.valid_until
        keeper.close(PATIENCE)


def test_a_frozen_member_is_left_although_its_connection_stands() -> None:
    with members(2) as (_, (m1, m2)):
        keeper = keeper_of(m1, m2, ttl_ms=4_000)
        until(keeper, Connected)
        frozen, other = (m1, m2) if keeper.endpoint() == m1.endpoint else (m2, m1)
        frozen.frozen = True
        until(keeper, Connected, lambda event: event.endpoint == other.endpoint)
        keeper.close(PATIENCE)


def test_dead_endpoints_in_the_list_only_cost_a_moment() -> None:
    with members(1) as (_, (m1,)):
        gone = Member(Cluster())
        gone.die()
        keeper = heard([gone.endpoint, "http://does-not-exist.invalid:1", m1.endpoint])
        assert until(keeper, Connected).endpoint == m1.endpoint
        keeper.close(PATIENCE)


def test_a_member_that_comes_back_is_found_again() -> None:
    with members(1) as (cluster, (m1,)):
        keeper = keeper_of(m1)
        keeper.campaign("orders")
        until(keeper, Granted)
        port = m1.port
        m1.die()
        until(keeper, Disconnected)
        again = Member(cluster, port)
        try:
            until(keeper, Connected)
            until(keeper, Renewed)
            keeper.close(PATIENCE)
        finally:
            again.die()


def test_a_change_whose_answer_was_lost_takes_effect_once() -> None:
    with members(2) as (cluster, (m1, m2)):
        keeper = keeper_of(m1, m2)
        until(keeper, Connected)
        first = m1 if keeper.endpoint() == m1.endpoint else m2
        first.frozen = True  # reads, and never answers
        keeper.campaign("orders")
        until(keeper, Granted)
        assert cluster.executed.count("campaign") == 1
        keeper.close(PATIENCE)


def test_release_lets_the_other_one_lead() -> None:
    with members(1) as (_, (m1,)):
        first, second = keeper_of(m1, node="a"), keeper_of(m1, node="b")
        first.campaign("orders")
        granted = until(first, Granted)
        second.campaign("orders")
        first.release("orders", granted.term)
        assert first.valid_until("orders") is None
        assert until(second, Granted).term > granted.term
        assert until(first, Ended).cause == "released"
        first.close(PATIENCE)
        second.close(PATIENCE)


def test_a_demand_is_heard_at_once() -> None:
    with members(1) as (cluster, (m1,)):
        keeper = keeper_of(m1)
        keeper.campaign("orders")
        granted = until(keeper, Granted)
        session = keeper.session()
        assert session is not None
        cluster.push(session, type="stepdown", election="orders", term=granted.term, successor="b", grace_ms=9_000)
        assert until(keeper, Demanded).successor == "b"
        keeper.close(PATIENCE)


def test_a_session_that_is_gone_ends_the_lease_and_a_new_one_is_opened() -> None:
    with members(1) as (cluster, (m1,)):
        keeper = keeper_of(m1)
        keeper.campaign("orders")
        until(keeper, Granted)
        session = keeper.session()
        assert session is not None
        cluster.expire(session)
        cluster.push(session, type="session_gone", cause="expired")
        assert until(keeper, Ended).cause == "session_lost"
        until(keeper, SessionLost)
        keeper.campaign("orders")
        assert until(keeper, Granted).term == cluster.terms
        assert keeper.session() != session
        keeper.close(PATIENCE)


def test_a_name_in_use_is_waited_for() -> None:
    with members(1) as (_, (m1,)):
        first = keeper_of(m1)
        first.campaign("orders")
        until(first, Granted)
        second = keeper_of(m1)
        second.campaign("orders")
        assert until(second, Waiting).code == "node_in_use"
        first.close(PATIENCE)
        until(second, Granted)
        second.close(PATIENCE)


def test_a_wrong_secret_is_told() -> None:
    with members(1, secret="right") as (_, (m1,)):
        wrong = keeper_of(m1, secret="wrong")
        assert until(wrong, Rejected).code == "denied"
        wrong.close(0.1)
        right = keeper_of(m1, secret="right")
        until(right, Connected)
        right.close(PATIENCE)


def test_without_any_member_closing_ends_in_time_and_says_that_nobody_heard() -> None:
    with members(1) as (_, (m1,)):
        keeper = keeper_of(m1)
        keeper.campaign("orders")
        until(keeper, Granted)
        m1.die()
        until(keeper, Disconnected)
        assert not keeper.close(0.2)
        closed = until(keeper, Closed)
        assert not closed.told


def test_a_forked_child_holds_nothing_and_the_parent_keeps_everything() -> None:
    with members(1) as (_, (m1,)):
        keeper = keeper_of(m1)
        keeper.campaign("orders")
        granted = until(keeper, Granted)
        child = os.fork()
        if child == 0:
            held = keeper.remaining_us("orders", granted.term) or keeper.valid_until("orders") or keeper.is_ours()
            os._exit(1 if held else 0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert keeper.remaining_us("orders", granted.term) > 0
        keeper.close(PATIENCE)


def test_every_keepalive_has_a_number_of_its_own() -> None:
    with members(2) as (cluster, (m1, m2)):
        keeper = keeper_of(m1, m2, ttl_ms=2_000)
        keeper.campaign("orders")
        until(keeper, Renewed)
        session = keeper.session()
        assert session is not None
        (m1 if keeper.endpoint() == m1.endpoint else m2).die()
        until(keeper, Connected)
        until(keeper, Renewed)
        numbers = cluster.numbers[session]
        assert len(numbers) == len(set(numbers))
        keeper.close(PATIENCE)


def test_bad_names_and_endpoints_are_refused_at_once() -> None:
    with pytest.raises(Invalid, match="node"):
        Keeper("http://127.0.0.1:1", node="no spaces")
    with pytest.raises(Invalid, match="endpoints"):
        Keeper("ftp://127.0.0.1:1", node="a")


def test_a_process_that_just_ends_gives_its_office_back() -> None:
    program = """
import sys
from tenure.client import Keeper
from tenure.client.events import Granted
keeper = Keeper(sys.argv[1], node="a", ttl_ms=60_000).start()
keeper.campaign("orders")
while not any(isinstance(event, Granted) for event in keeper.wait()):
    pass
"""
    with members(1) as (cluster, (m1,)):
        subprocess.run([sys.executable, "-c", program, m1.endpoint], check=True)
        assert cluster.held == {}
        assert cluster.sessions == {}
