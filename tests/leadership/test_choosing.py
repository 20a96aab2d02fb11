"""Choosing a leader (DESIGN 6), and what stops flapping."""

import msgspec

from tenure.base.ids import ElectionName, LogIndex, NodeId, SessionId
from tenure.leadership.choosing import HoldDown, HoldDownSettings, Obstacle, Standing, choose, unfit
from tenure.leadership.commands import Configure, Demote, Pause, Release
from tenure.leadership.engine import ElectionConfig
from tenure.leadership.offices import OfficeSettings
from tenure.leadership.steward import StewardSettings
from tests.leadership.stage import ORDERS, Stage, good

BASE = Standing(SessionId("1"), NodeId("base"), 0, LogIndex(9), 100, None, 0, yielded=False, obstacle=None)


def better(**changes: object) -> Standing:
    return msgspec.structs.replace(BASE, node=NodeId("better"), **changes)


def test_the_order_is_priority_health_lag_offices_arrival() -> None:
    ranks = [
        better(priority=1, health=10),
        better(health=100, lag=50, offices=9),
        better(health=100, lag=60, offices=0),
        better(health=100, lag=None, offices=0, arrived=LogIndex(1)),
        better(health=100, lag=None, offices=0, arrived=LogIndex(2)),
        better(health=100, lag=None, offices=1, arrived=LogIndex(1)),
        better(health=99, lag=0),
        better(priority=99, yielded=True),
    ]
    for place, best in enumerate(ranks):
        assert choose(ranks[place:], None) == best
        assert choose(list(reversed(ranks[place:])), None) == best


def test_a_named_successor_goes_first_if_it_is_eligible() -> None:
    assert choose([better(priority=9), BASE], NodeId("base")) == BASE
    blocked = msgspec.structs.replace(BASE, obstacle=Obstacle("unhealthy"))
    assert choose([blocked, better()], NodeId("base")) == better()
    assert choose([blocked], None) is None


def test_unfit_is_unhealthy_lagging_or_without_a_lag_where_one_is_asked_for() -> None:
    config = ElectionConfig(health_min=50, lag_max=10)
    assert unfit(config, 49, 0) == "unhealthy"
    assert unfit(config, 50, 11) == "lagging"
    assert unfit(config, 50, None) == "lag_unknown"
    assert unfit(config, 50, 10) is None
    assert unfit(ElectionConfig(), 1, None) is None


def reasons(stage: Stage) -> dict[str, str | None]:
    view = good(stage.machine.election(ORDERS, stage.steward.hints(stage.now, stage.wall_ms)))
    assert all(one.eligible == (one.reason is None) for one in view.candidates)
    return {one.node_id: one.reason for one in view.candidates}


def test_many_vacancies_at_once_are_spread_over_the_nodes() -> None:
    stage = Stage()
    names = [ElectionName(f"shard-{number}") for number in range(9)]
    stage.do(Pause(ORDERS, False))
    for name in names:
        stage.do(Configure(name, ElectionConfig()))
        stage.do(Pause(name, True))
    for node in "abc":
        session = stage.open(node)
        for name in names:
            stage.campaign(session, election=name)
    for name in names:
        stage.do(Pause(name, False))
    stage.settle()
    holders = [stage.holder(name) for name in names]
    assert sorted(holders) == sorted("abc" * 3)  # type: ignore[type-var]


def test_who_has_not_been_heard_in_this_term_is_not_chosen() -> None:
    stage = Stage()
    a = stage.open("a")
    stage.campaign(a)
    stage.take_over()
    assert stage.settle() == []
    assert reasons(stage) == {"a": "not_heard"}
    stage.keep(a)
    stage.settle()
    assert stage.holder() == "a"


def test_who_has_missed_most_of_a_ttl_is_probably_dying_and_not_chosen() -> None:
    stage = Stage()
    a, _ = stage.stand("a"), stage.stand("b")
    stage.after(800)
    stage.keep(a)
    stage.do(Release(a, ORDERS, stage.term_of(), True))
    assert stage.settle() == []
    assert reasons(stage) == {"b": "silent"}


def test_paused_elections_grant_nobody_and_keep_their_holder() -> None:
    stage = Stage()
    a = stage.stand("a")
    stage.do(Pause(ORDERS, True))
    stage.stand("b")
    assert stage.holder() == "a"
    stage.do(Release(a, ORDERS, stage.term_of(), True))
    assert stage.settle() == []
    assert reasons(stage) == {"b": "paused"}
    stage.do(Pause(ORDERS, False))
    stage.settle()
    assert stage.holder() == "b"


def test_an_unhealthy_candidate_is_eligible_again_only_after_it_has_settled() -> None:
    stage = Stage()
    a, b = stage.stand("a"), stage.stand("b")
    stage.keep(b, health=0)
    stage.do(Release(a, ORDERS, stage.term_of(), True))
    assert stage.settle() == []
    assert reasons(stage) == {"b": "unhealthy"}
    stage.keep_all(b, until_ms=1_900)
    assert reasons(stage) == {"b": "settling"}
    assert stage.holder() is None
    stage.keep_all(b, until_ms=200)
    assert stage.holder() == "b"


def test_a_holder_that_stays_unhealthy_hands_over_with_grace() -> None:
    stage = Stage()
    a, b = stage.stand("a"), stage.stand("b")
    stage.keep(a, health=0)
    stage.after(999)
    stage.keep(a, health=0)
    stage.keep(b)
    assert stage.settle() == [], "a dip is no reason"
    stage.after(1)
    (demote,) = stage.settle()
    assert isinstance(demote, Demote)
    (demand,) = good(stage.keep(a, health=0)).demands
    stage.do(Release(a, ORDERS, demand.term, False))
    stage.settle()
    assert stage.holder() == "b"
    assert good(stage.machine.history(ORDERS, 1)).holdings[0].began == "unhealthy"


def test_an_unhealthy_holder_stays_while_nobody_is_better() -> None:
    stage = Stage()
    a, b = stage.stand("a"), stage.stand("b")
    for _ in range(30):
        stage.after(100)
        stage.keep(a, health=0)
        stage.keep(b, health=0)
        assert stage.settle() == []
    assert stage.holder() == "a"


# --- hold-down ------------------------------------------------------------------------------------------------------

SHORT = 1_000_000
MINUTE = 60_000_000


def flaps(ends: int, hold_down: HoldDown, node: str = "a") -> None:
    for _ in range(ends):
        hold_down.ended("orders", NodeId(node), "expired", SHORT, now=0)


def test_hold_down_doubles_with_every_bad_end_after_the_free_ones() -> None:
    waits: list[int | None] = []
    for ends in range(1, 11):
        hold_down = HoldDown(HoldDownSettings())
        flaps(ends, hold_down)
        waits.append(hold_down.until("orders", NodeId("a"), now=0))
    seconds = [None if wait is None else wait // 1_000_000 for wait in waits]
    assert seconds == [None, None, 1, 2, 4, 8, 16, 32, 60, 60]


def test_a_long_holding_or_a_long_peace_clears_the_account() -> None:
    hold_down = HoldDown(HoldDownSettings())
    flaps(8, hold_down)
    assert hold_down.until("orders", NodeId("a"), now=600 * 1_000_000) is None
    hold_down.ended("orders", NodeId("a"), "expired", MINUTE, now=0)
    assert hold_down.until("orders", NodeId("a"), now=0) is None


def test_what_ends_in_order_is_no_flapping() -> None:
    hold_down = HoldDown(HoldDownSettings())
    for _ in range(20):
        hold_down.ended("orders", NodeId("a"), "released", SHORT, now=0)
        hold_down.ended("orders", NodeId("a"), "stepdown", SHORT, now=0)
    assert hold_down.until("orders", NodeId("a"), now=0) is None


def test_hold_down_accounts_are_bounded() -> None:
    hold_down = HoldDown(HoldDownSettings(accounts_max=3))
    for number in range(10):
        flaps(1, hold_down, f"n{number}")
    assert len(hold_down._accounts) == 3


def test_a_flapping_node_waits_while_another_can_lead_and_only_a_little_if_none_can() -> None:
    settings = StewardSettings(offices=OfficeSettings(hold_down=HoldDownSettings(free_ends=0, first_ms=30_000)))
    stage = Stage(settings)
    stage.do(Configure(ORDERS, ElectionConfig(mode="fenced")))
    a, b = stage.stand("a", ttl_ms=60_000, priority=9), stage.stand("b", ttl_ms=60_000)
    stage.steward.disconnected(a, stage.now)
    stage.settle()
    assert stage.holder() == "b"
    stage.keep(a)
    stage.do(Release(b, ORDERS, stage.term_of(), False))
    stage.settle()
    assert stage.holder() == "b", "b gave it back, but a is held down"
    assert reasons(stage)["a"] == "held_down"
    stage.do(Release(b, ORDERS, stage.term_of(), True))
    assert stage.settle() == []
    stage.keep_all(a, until_ms=2_000)
    assert stage.holder() == "a", "nobody else is there"
