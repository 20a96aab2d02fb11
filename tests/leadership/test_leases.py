"""P3.1 to P3.5 and P3.8 at the steward and the state machine: when a lease is named, and when it may be taken away."""

import pytest

from tenure.base.ids import ConsensusTerm, SessionId, Term
from tenure.base.instants import MS, NEVER
from tenure.leadership import commands
from tenure.leadership.commands import (
    Campaign,
    Configure,
    Expire,
    Grant,
    OpenClient,
    OpenSession,
    Release,
    Revoke,
    Stepdown,
    Withdraw,
)
from tenure.leadership.engine import ClientOpened, ElectionConfig, Keepalive, Kept, Noted, Refused, Sequenced
from tenure.leadership.steward import Receipt
from tests.leadership.stage import ORDERS, Stage, decision, good, leases


def hand_over(stage: Stage, grace_ms: int = 500, fenced_off: bool = False) -> None:
    good(stage.do(Stepdown(ORDERS, None, None, grace_ms, fenced_off)))


# --- P3.1: what gives a lease ---------------------------------------------------------------------------------------


def test_only_a_keepalives_acknowledgement_names_a_lease() -> None:
    stage = Stage()
    session = stage.open("a")
    assert leases(stage.keep(session)) == ()
    stage.campaign(session)
    stage.settle()
    (lease,) = leases(stage.keep(session))
    assert (lease.election, lease.term, lease.ttl_ms) == (ORDERS, 1000, 1_000)


def test_a_replayed_campaign_says_nothing_about_who_leads() -> None:
    stage = Stage()
    client = stage.do(OpenClient("1" * 16))
    assert isinstance(client, ClientOpened)
    session = stage.open("a")
    origin = Sequenced(client.client, 1, 1)
    first = stage.do(Campaign(session, ORDERS, 0), origin)
    stage.settle()
    stage.do(Withdraw(session, ORDERS))
    assert stage.do(Campaign(session, ORDERS, 0), origin) == first
    stage.settle()
    assert stage.holder() is None
    assert leases(stage.keep(session)) == ()


# --- P3.3: acknowledgements -----------------------------------------------------------------------------------------


def test_a_receipt_of_an_older_consensus_term_is_never_acknowledged() -> None:
    stage = Stage()
    session = stage.stand("a")
    receipt = stage.steward.receive(Keepalive(session, 1), stage.now)
    assert isinstance(receipt, Receipt)
    stage.take_over()
    assert isinstance(stage.steward.acknowledge(receipt, stage.now), Refused)


def test_before_the_no_op_is_applied_an_unknown_session_is_not_called_gone() -> None:
    stage = Stage()
    stage.take_over(serving=False)
    session = SessionId(f"{stage.index + 1}-{'7' * 16}")
    receipt = stage.steward.receive(Keepalive(session, 1), stage.now)
    assert isinstance(receipt, Receipt)
    opening = commands.encode(OpenSession("a", 1_000, "7" * 16, {}), 0)  # type: ignore[arg-type]
    stage.apply(opening, ConsensusTerm(1))  # the backlog opens it
    stage.steward.on_serving(stage.now)
    assert isinstance(stage.steward.acknowledge(receipt, stage.now), Kept)


def test_before_the_no_op_is_applied_nothing_is_decided() -> None:
    stage = Stage()
    stage.stand("a")
    stage.take_over(serving=False)
    stage.after(10_000)
    assert stage.decide() == []
    assert stage.steward.deadline() == NEVER


def test_the_acknowledgement_names_what_is_applied_when_it_is_built() -> None:
    stage = Stage()
    session = stage.open("a")
    receipt = stage.steward.receive(Keepalive(session, 1), stage.now)
    assert isinstance(receipt, Receipt)
    stage.campaign(session)
    stage.settle()
    assert len(leases(stage.steward.acknowledge(receipt, stage.now))) == 1


# --- P3.4: when a lease may be taken away ---------------------------------------------------------------------------


def test_a_session_expires_one_ttl_after_the_last_acknowledged_receipt() -> None:
    stage = Stage()
    session = stage.stand("a")
    stage.after(700)
    stage.keep(session)
    stage.after(999)
    assert stage.decide() == []
    stage.after(1)
    (data,) = stage.decide()
    assert decision(data) == Expire(stage.term, session, silent_ms=1_000)


def test_the_ttl_counts_from_the_receipt_and_not_from_the_acknowledgement() -> None:
    stage = Stage()
    session = stage.stand("a")
    receipt = stage.steward.receive(Keepalive(session, 1), stage.now)
    assert isinstance(receipt, Receipt)
    stage.after(900)
    assert isinstance(stage.steward.acknowledge(receipt, stage.now), Kept)
    stage.after(100)
    assert [type(decision(data)) for data in stage.decide()] == [Expire]


def test_a_keepalive_that_waits_for_its_round_puts_the_expiry_off_too() -> None:
    stage = Stage()
    session = stage.stand("a")
    stage.after(900)
    stage.steward.receive(Keepalive(session, 1), stage.now)
    stage.after(999)
    assert stage.decide() == []


def test_a_new_steward_gives_every_session_a_full_ttl_from_its_win() -> None:
    stage = Stage()
    stage.stand("a")
    stage.after(999)
    stage.take_over()
    stage.after(999)
    assert stage.decide() == []
    stage.after(1)
    assert [type(decision(data)) for data in stage.decide()] == [Expire]


def test_a_grant_gives_its_session_a_full_ttl_from_its_apply() -> None:
    stage = Stage()
    session = stage.open("a")
    stage.after(700)
    stage.campaign(session)
    stage.settle()
    assert stage.holder() == "a"
    stage.after(999)
    assert stage.decide() == []


def test_an_expiry_freezes_the_whole_session_also_for_a_grant_in_flight() -> None:
    stage = Stage()
    session = stage.open("a")
    late = stage.steward.receive(Keepalive(session, 1), stage.now)
    assert isinstance(late, Receipt)
    stage.campaign(session)
    (grant,) = stage.decide()
    stage.after(1_000)
    (expire,) = stage.decide()
    assert isinstance(decision(expire), Expire)
    stage.apply(grant)  # it was ahead in the log
    assert stage.holder() == "a"
    assert isinstance(stage.steward.acknowledge(late, stage.now), Refused)
    assert isinstance(stage.keep(session), Refused)
    stage.apply(expire)
    assert stage.holder() is None
    assert good(stage.machine.history(ORDERS, 1)).holdings[0].ended == "expired"


def test_a_session_in_expiry_is_granted_nothing() -> None:
    stage = Stage()
    session = stage.open("a")
    stage.after(1_000)
    (expire,) = stage.decide()
    stage.campaign(session)
    assert stage.decide() == []
    stage.apply(expire)


def test_the_end_of_a_grace_freezes_the_lease_at_once_and_revokes_it_a_ttl_later() -> None:
    stage = Stage()
    a, b = stage.stand("a"), stage.stand("b")
    hand_over(stage, grace_ms=500)
    for _ in range(5):
        stage.after(100)
        answer = good(stage.keep(a))
        stage.keep(b)
        if stage.now < 1_500 * MS:
            assert len(answer.leases) == 1, "within the grace it still leads"
    stage.settle()  # the grace is over: frozen now, its last renewal was acknowledged just now
    assert leases(stage.keep(a)) == ()
    for _ in range(9):
        stage.after(100)
        stage.keep(a)
        stage.keep(b)
        assert stage.settle() == []
    stage.after(100)
    stage.keep(b)
    done = stage.settle()
    assert [type(one) for one in done] == [Revoke, Grant]
    assert stage.holder() == "b"
    assert isinstance(stage.keep(a), Kept), "the session itself lives on"


def test_a_freeze_outlives_a_proposal_that_the_log_did_not_take() -> None:
    stage = Stage()
    session = stage.stand("a")
    stage.after(1_000)
    (expire,) = stage.decide()
    stage.steward.dropped(expire)
    assert isinstance(stage.keep(session), Refused)
    assert stage.decide() == [], "not at once again"
    stage.after(stage.settings.retry_ms)
    assert [decision(data) for data in stage.decide()] == [Expire(stage.term, session, 1_025)]


def test_a_freeze_ends_with_the_term_of_its_steward() -> None:
    stage = Stage()
    session = stage.stand("a")
    stage.after(1_000)
    stage.decide()
    stage.take_over()
    assert len(leases(stage.keep(session))) == 1


def test_a_freeze_ends_with_the_apply_of_its_entry_even_if_that_does_nothing() -> None:
    stage = Stage()
    a, b = stage.stand("a"), stage.stand("b")
    hand_over(stage, grace_ms=0, fenced_off=True)
    (revoke,) = stage.decide()
    stage.do(Release(a, ORDERS, stage.term_of(), withdraw=False))  # it came first
    stage.keep(b)
    stage.settle()
    assert stage.holder() == "b"
    stage.apply(revoke)
    assert stage.holder() == "b"
    assert len(leases(stage.keep(b))) == 1


@pytest.mark.parametrize("wrong", ["session", "term"])
def test_a_revoke_takes_exactly_the_holding_that_it_names(wrong: str) -> None:
    stage = Stage()
    a, b = stage.stand("a"), stage.stand("b")
    term = stage.term_of()
    body = Revoke(stage.term, b if wrong == "session" else a, ORDERS, Term(term - (wrong == "term")), "stepdown")
    assert isinstance(stage.do(body), Refused)
    assert stage.holder() == "a"
    assert stage.do(Revoke(stage.term, a, ORDERS, term, "stepdown")) == Noted()


def test_a_grant_fills_exactly_the_vacancy_that_it_names() -> None:
    stage = Stage()
    a, b = stage.stand("a"), stage.stand("b")
    term = stage.term_of()
    late = Grant(stage.term, b, ORDERS, Term(0))
    assert isinstance(stage.do(late), Refused), "held"
    stage.do(Release(a, ORDERS, term, withdraw=True))
    assert isinstance(stage.do(late), Refused), "vacant, but since another term"
    assert stage.do(Grant(stage.term, b, ORDERS, term)) == Noted()


def test_a_grant_to_one_who_withdrew_or_in_a_paused_election_does_nothing() -> None:
    stage = Stage()
    session = stage.open("a")
    stage.campaign(session)
    (grant,) = stage.decide()
    stage.do(commands.Pause(ORDERS, True))
    assert isinstance(stage.apply(grant), Refused)
    stage.do(commands.Pause(ORDERS, False))
    (grant,) = stage.decide()
    stage.do(Withdraw(session, ORDERS))
    assert isinstance(stage.apply(grant), Refused)
    assert stage.holder() is None


def test_fenced_off_skips_the_lease_and_the_history_says_so() -> None:
    stage = Stage()
    a, b = stage.stand("a"), stage.stand("b")
    stage.keep(a)
    good(stage.do(Stepdown(ORDERS, None, "rack burnt", 5_000, True)))
    stage.keep(b)
    stage.settle()
    assert stage.holder() == "b"
    ended = good(stage.machine.history(ORDERS, 5)).holdings[1]
    assert (ended.ended, ended.reason) == ("stepdown", "rack burnt")
    assert [phase.name for phase in ended.phases] == ["granted", "stepdown", "fenced_off", "revoked"]


# --- P3.5: terms of decisions ---------------------------------------------------------------------------------------


def test_a_decision_that_lands_in_another_consensus_term_does_nothing() -> None:
    stage = Stage()
    session = stage.stand("a")
    stage.after(1_000)
    (expire,) = stage.decide()
    stage.take_over()
    stage.keep(session)
    assert isinstance(stage.apply(expire, entry_term=ConsensusTerm(3)), Refused)
    assert stage.holder() == "a"


def test_a_decision_of_an_older_term_below_the_no_op_still_counts() -> None:  # P3.9
    stage = Stage()
    stage.stand("a")
    stage.after(1_000)
    (expire,) = stage.decide()
    old = stage.term
    stage.take_over(serving=False)
    assert stage.apply(expire, entry_term=old) == Noted()
    stage.steward.on_serving(stage.now)
    assert stage.holder() is None


# --- P3.7: a steward that stood still -------------------------------------------------------------------------------


def test_after_a_gap_deadlines_shift_by_the_gap_and_no_more() -> None:
    stage = Stage()
    stage.stand("a")
    stage.after(600)
    stage.after(5_000)  # nobody ran this process
    stage.steward.gap(5_000 * MS, stage.now)
    assert stage.decide() == []
    stage.after(399)
    assert stage.decide() == []
    stage.after(1)
    assert [type(decision(data)) for data in stage.decide()] == [Expire]


# --- P3.8: fenced elections -----------------------------------------------------------------------------------------


def fenced(stage: Stage) -> None:
    stage.do(Configure(ORDERS, ElectionConfig(mode="fenced")))


def test_a_fenced_election_moves_as_soon_as_the_connection_is_lost() -> None:
    stage = Stage()
    fenced(stage)
    a, _ = stage.stand("a", ttl_ms=60_000), stage.stand("b", ttl_ms=60_000)
    stage.steward.disconnected(a, stage.now)
    assert stage.steward.deadline() <= stage.now
    assert [type(one) for one in stage.settle()] == [Revoke, Grant]
    assert stage.holder() == "b"
    assert good(stage.machine.history(ORDERS, 1)).holdings[0].began == "disconnected"


def test_an_exclusive_election_waits_out_the_lease_whatever_the_connection_does() -> None:
    stage = Stage()
    a, b = stage.stand("a"), stage.stand("b")
    stage.steward.disconnected(a, stage.now)
    stage.after(999)
    stage.keep(b)
    assert stage.settle() == []


def test_a_lost_connection_seen_in_an_older_term_does_not_count() -> None:
    stage = Stage()
    fenced(stage)
    a, b = stage.stand("a", ttl_ms=60_000), stage.stand("b", ttl_ms=60_000)
    stage.steward.disconnected(a, stage.now)
    stage.take_over()
    stage.keep(b)
    assert stage.settle() == []
    assert stage.holder() == "a"


def test_a_keepalive_on_another_connection_mends_it() -> None:
    stage = Stage()
    fenced(stage)
    a, _ = stage.stand("a", ttl_ms=60_000), stage.stand("b", ttl_ms=60_000)
    stage.steward.disconnected(a, stage.now)
    stage.keep(a)
    assert stage.settle() == []


def test_a_lost_connection_takes_nothing_away_while_nobody_else_can_lead() -> None:
    stage = Stage()
    fenced(stage)
    a = stage.stand("a", ttl_ms=60_000)
    stage.steward.disconnected(a, stage.now)
    assert stage.settle() == []
    stage.stand("b", ttl_ms=60_000)
    assert stage.holder() == "b", "somebody came, and the connection is still lost"
