"""Elections, as every engine must hold them (P2, P3, API.md)."""

import pytest

from tenure.base.ids import ElectionName, Term
from tenure.leadership.engine import (
    Configure,
    Disconnected,
    ElectionConfig,
    History,
    KvGet,
    Pause,
    ReadElection,
    Release,
    Validate,
    Withdraw,
)
from tests.engines.world import ORDERS, World, assert_gone

pytestmark = pytest.mark.anyio
MAIL = ElectionName("mail")


async def test_the_first_candidate_is_granted_and_a_keepalive_says_so(world: World) -> None:
    _, lease = await world.leader("a")
    assert lease.fence_token.startswith(f"t1.orders.{lease.term}.")
    view = await world.election()
    assert (view.node_id, view.term, view.state) == ("a", lease.term, "held")
    assert view.owner is not None
    assert lease.fence_token.endswith(view.owner)
    assert view.ttl_remaining_ms is not None


async def test_nobody_else_is_named_while_it_is_held(world: World) -> None:
    await world.leader("a")
    other = await world.candidate("b", priority=99)
    assert (await other.keep()).leases == ()
    assert (await world.election()).node_id == "a"


async def test_the_highest_priority_follows(world: World) -> None:
    node, lease = await world.leader("a")
    for name, priority in (("b", 1), ("c", 5), ("d", 3)):
        await world.candidate(name, priority)
    await node.release(lease, withdraw=True)
    granted = await world.seen("granted", after=1, node_id="c")
    assert granted.cause == "released"


async def test_a_repeated_campaign_changes_the_priority(world: World) -> None:
    node, lease = await world.leader("a")
    await world.candidate("b", 1)
    late = await world.candidate("c", 0)
    await late.campaign(9)
    await node.release(lease, withdraw=True)
    await world.seen("granted", node_id="c")


async def test_terms_strictly_rise_and_owners_differ(world: World) -> None:
    terms: list[int] = []
    owners: set[str] = set()
    for name in ("a", "b", "c"):
        node, lease = await world.leader(name)
        terms.append(lease.term)
        owners.add(lease.fence_token.rpartition(".")[2])
        other = ElectionName(f"other-{name}")
        await node.campaign(election=other)
        terms.append((await world.seen("granted", election=other)).term or 0)
        await node.withdraw()
    assert terms == sorted(set(terms)), "one counter for the whole cluster"
    assert len(owners) == 3


async def test_a_release_names_its_term(world: World) -> None:
    node, lease = await world.leader("a")
    wrong = Release(node.session, ORDERS, Term(lease.term + 1))
    assert (await world.no(wrong, "not_held")).current_term == lease.term
    await node.release(lease)
    await world.no(Release(node.session, ORDERS, lease.term), "not_held")


async def test_a_release_may_say_that_the_application_crashed(world: World) -> None:
    node, lease = await world.leader("a")
    await world.candidate("b")
    await world.get(Release(node.session, ORDERS, lease.term, True, "crash", "status 137"))
    assert (await world.seen("ended")).cause == "crash"
    assert (await world.seen("granted", node_id="b")).cause == "crash"
    newest, oldest = (await world.get(History(ORDERS))).holdings
    assert (newest.began, oldest.ended, oldest.reason) == ("crash", "crash", "status 137")


async def test_a_release_s_reason_has_an_end(world: World) -> None:
    node, lease = await world.leader("a")
    endless = Release(node.session, ORDERS, lease.term, reason="x" * 201)
    assert (await world.no(endless, "invalid")).field == "reason"


async def test_a_withdrawal_gives_back_and_is_harmless_to_repeat(world: World) -> None:
    node, lease = await world.leader("a")
    await node.withdraw()
    await node.withdraw()
    view = await world.election()
    assert (view.state, view.node_id, view.term, view.candidates) == ("vacant", None, lease.term, ())
    assert (await node.keep()).leases == ()


async def test_a_dead_leader_is_followed_after_its_ttl(world: World) -> None:
    dead, lease = await world.leader("a", ttl_ms=200)
    standby = await world.candidate("b")
    await world.pass_ms(200)
    granted = await world.seen("granted", node_id="b")
    assert granted.cause == "expired"
    assert granted.term is not None
    assert granted.term > lease.term
    assert (await standby.lease()).term == granted.term
    assert_gone(await dead.try_keep())


async def test_a_fenced_election_moves_when_the_connection_is_lost(world: World) -> None:  # P3.8
    await world.get(Configure(ORDERS, ElectionConfig(mode="fenced")))
    node, _ = await world.leader("a")
    await world.candidate("b")
    await world.get(Disconnected(node.session))
    assert (await world.seen("granted", node_id="b")).cause == "disconnected"


async def test_an_exclusive_election_stays_when_the_connection_is_lost(world: World) -> None:
    node, lease = await world.leader("a")
    await world.candidate("b")
    await world.get(Disconnected(node.session))
    assert await node.lease() == lease


async def test_a_paused_election_grants_nobody_new(world: World) -> None:
    node, lease = await world.leader("a")
    assert (await world.get(Pause(ORDERS, True))).paused
    await world.candidate("b")
    await node.release(lease, withdraw=True)
    view = await world.election()
    assert (view.state, view.paused) == ("vacant", True)
    assert [(one.node_id, one.eligible, one.reason) for one in view.candidates] == [("b", False, "paused")]
    await world.get(Pause(ORDERS, False))
    await world.seen("granted", node_id="b")


async def test_a_sick_candidate_is_passed_over_and_the_view_says_why(world: World) -> None:
    node, lease = await world.leader("a")
    sick = await world.candidate("b", priority=9)
    await world.candidate("c")
    await sick.keep(health=0)
    await node.release(lease, withdraw=True)
    await world.seen("granted", node_id="c")
    reasons = {one.node_id: one.reason for one in (await world.election()).candidates}
    assert reasons == {"b": "unhealthy", "c": "holds"}


async def test_configuration_is_set_as_a_whole_and_begins_an_election(world: World) -> None:
    config = ElectionConfig(mode="fenced", health_min=20, lag_max=5)
    assert (await world.get(Configure(MAIL, config))).config == config
    view = await world.election(MAIL)
    assert (view.state, view.term, view.config) == ("vacant", 0, config)


async def test_what_is_unknown_is_404_everywhere_but_in_validate(world: World) -> None:
    node = await world.node("a")
    for request in (
        ReadElection(ORDERS),
        History(ORDERS),
        Pause(ORDERS, True),
        Withdraw(node.session, ORDERS),
        Release(node.session, ORDERS, Term(1)),
    ):
        await world.no(request, "unknown_election")
    await world.no(KvGet("leader_status/orders"), "unknown_key")
    answer = await world.get(Validate("orders", 1))
    assert (answer.valid, answer.reason, answer.current_term) == (False, "unknown_election", None)


async def test_a_token_is_valid_while_its_very_term_is_held(world: World) -> None:
    async def reason(term: int, owner: str | None = None) -> str:
        answer = await world.get(Validate(ORDERS, term, owner))
        assert answer.valid == (answer.reason == "current")
        return answer.reason

    node, old = await world.leader("a")
    await node.release(old, withdraw=True)
    assert await reason(old.term) == "not_held"
    _, lease = await world.leader("b")
    owner = lease.fence_token.rpartition(".")[2]
    assert await reason(lease.term) == "current"
    assert await reason(lease.term, owner) == "current"
    assert await reason(lease.term, old.fence_token.rpartition(".")[2]) == "wrong_owner"
    assert await reason(old.term) == "stale"
    assert await reason(lease.term + 1) == "never_issued"
