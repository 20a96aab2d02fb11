"""P3.6 and API.md: sessions and elections as people change them."""

import msgspec
import pytest

from tenure.base.ids import ElectionName, LogIndex, NodeId, SessionId, Term
from tenure.base.instants import wall_ms_of
from tenure.leadership import engine, limits
from tenure.leadership.checks import check
from tenure.leadership.commands import CloseSession, OpenSession, Release, Stepdown, Withdraw, decode
from tenure.leadership.engine import (
    AnyResult,
    Refused,
    Released,
    SessionClosed,
    SessionOpened,
    Stepped,
    Validate,
    Withdrawn,
)
from tenure.leadership.machine import Machine
from tenure.leadership.waiting import Waiting, wait_us
from tests.leadership.stage import ORDERS, Stage, good, process


def code(result: AnyResult) -> str:
    assert isinstance(result, Refused), result
    return result.code


def test_a_sessions_id_is_its_log_index_and_the_nonce_of_its_process() -> None:  # P3.6
    stage = Stage()
    assert stage.open("a") == f"1-{process(1)}"
    assert stage.open("b") == f"2-{process(2)}"


def test_no_second_process_joins_a_session_and_none_takes_it_over() -> None:  # P3.6
    stage = Stage()
    stage.open("a", ttl_ms=1_000)
    other = stage.do(OpenSession(NodeId("a"), 1_000, "f" * 16, {}))
    assert code(other) == "node_in_use"
    assert isinstance(other, Refused)
    assert other.retry_after_ms == 1_000


def test_the_same_opening_repeated_finds_its_session() -> None:  # P9.2: every command is conditional too
    stage = Stage()
    session = stage.open("a")
    assert stage.do(OpenSession(NodeId("a"), 1_000, process(1), {})) == SessionOpened(session, NodeId("a"), 1_000)


def test_a_sessions_ttl_never_changes() -> None:  # P3.6
    stage = Stage()
    stage.open("a", ttl_ms=1_000)
    assert code(stage.do(OpenSession(NodeId("a"), 2_000, process(1), {}))) == "node_in_use"


def test_closing_is_harmless_to_repeat_and_404_for_what_never_was() -> None:
    stage = Stage()
    session = stage.open("a")
    assert stage.do(CloseSession(session)) == SessionClosed(session)
    assert stage.do(CloseSession(session)) == SessionClosed(session)
    assert code(stage.do(CloseSession(SessionId(f"999-{process(1)}")))) == "unknown_session"
    assert stage.open("a") != session


def test_closing_gives_back_what_it_held_and_ends_its_candidacies() -> None:
    stage = Stage()
    a, _ = stage.stand("a"), stage.stand("b")
    stage.do(CloseSession(a))
    stage.settle()
    assert stage.holder() == "b"
    assert a not in stage.election().candidates
    assert good(stage.machine.history(ORDERS, 1)).holdings[0].began == "closed"


def test_a_release_names_the_term_and_takes_no_other() -> None:  # P3.6
    stage = Stage()
    session = stage.stand("a")
    term = stage.term_of()
    assert code(stage.do(Release(session, ORDERS, Term(term - 1), False))) == "not_held"
    assert stage.do(Release(session, ORDERS, term, False)) == Released(ORDERS, term)
    stage.settle()
    assert stage.holder() == "a", "the only candidate gets it again"
    assert code(stage.do(Release(session, ORDERS, term, False))) == "not_held", "a late copy ends nothing"


def test_a_release_may_say_that_the_application_crashed_and_the_history_keeps_why() -> None:  # DESIGN 6
    stage = Stage()
    a = stage.stand("a", priority=10)
    stage.stand("b")
    stage.do(Release(a, ORDERS, stage.term_of(), False, "crash", "status 137"))
    stage.settle()
    assert stage.holder() == "b", "as after any release, the others come first"
    newest, older = good(stage.machine.history(ORDERS, 2)).holdings
    assert (newest.began, older.ended, older.reason) == ("crash", "crash", "status 137")
    assert older.phases[-1].name == "crash"
    ends = [each.cause for each in stage.transitions if each.kind in {"ended", "granted"}]
    assert ends == ["first", "crash", "crash"]


def test_a_crash_during_a_stepdown_is_the_stepdown_s_end() -> None:
    stage = Stage()
    a = stage.stand("a")
    stage.stand("b")
    stepdown(stage, "b")
    stage.do(Release(a, ORDERS, stage.term_of(), False, "crash", "status 1"))
    ended = good(stage.machine.history(ORDERS, 1)).holdings[0]
    assert (ended.ended, ended.phases[-1].name) == ("switchover", "crash")


def test_a_release_of_an_older_program_reads_as_one_without_cause_and_reason() -> None:  # P10
    old = msgspec.msgpack.encode([1, 5, "", None, ["r", f"7-{process(1)}", "orders", 1000, True]])
    body = decode(old).body
    assert body == Release(SessionId(f"7-{process(1)}"), ORDERS, Term(1000), True, "released", None)


def test_a_reason_of_more_than_200_characters_is_refused_where_it_enters() -> None:
    request = engine.Release(SessionId(f"7-{process(1)}"), ORDERS, Term(1000), reason="x" * 200)
    assert check(request) is None
    refused = check(msgspec.structs.replace(request, reason="x" * 201))
    assert refused is not None
    assert (refused.code, refused.field) == ("invalid", "reason")


def test_who_gives_an_office_back_comes_after_everybody_else() -> None:
    stage = Stage()
    a = stage.stand("a", priority=10)
    stage.stand("b")
    stage.do(Release(a, ORDERS, stage.term_of(), False))
    stage.settle()
    assert stage.holder() == "b"


def test_a_withdrawal_releases_and_is_harmless_to_repeat() -> None:
    stage = Stage()
    session = stage.stand("a")
    assert stage.do(Withdraw(session, ORDERS)) == Withdrawn(ORDERS, session)
    assert stage.do(Withdraw(session, ORDERS)) == Withdrawn(ORDERS, session)
    assert stage.holder() is None


# --- stepdown -------------------------------------------------------------------------------------------------------


def stepdown(stage: Stage, successor: str | None = None, grace_ms: int = 500) -> AnyResult:
    return stage.do(Stepdown(ORDERS, NodeId(successor) if successor else None, None, grace_ms, False))


def test_a_begun_stepdown_is_replicated_state() -> None:  # P3.6
    stage = Stage()
    stage.stand("a")
    stage.stand("b")
    assert stepdown(stage) == Stepped(ORDERS, None, 1000, "under_way", "a")
    assert Machine.restore(stage.machine.snapshot()).state.elections[ORDERS].handover is not None
    stage.take_over()
    a, b = stage.election().candidates
    assert len(good(stage.keep(a)).demands) == 1
    stage.keep_all(a, b, until_ms=1_600)
    assert stage.holder() == "b", "the new steward carries it through"


def test_the_holder_is_told_and_its_release_makes_room_at_once() -> None:
    stage = Stage()
    a, _ = stage.stand("a"), stage.stand("b")
    begun = stepdown(stage, "b")
    assert isinstance(begun, Stepped)
    waiting = Waiting.after(begun)
    assert waiting is not None
    (demand,) = good(stage.keep(a)).demands
    assert (demand.election, demand.term, demand.successor, demand.grace_ms) == (ORDERS, 1000, "b", 500)
    assert waiting.answer(stage.machine) is None
    stage.do(Release(a, ORDERS, demand.term, False))
    stage.settle()
    assert waiting.answer(stage.machine) == Stepped(ORDERS, "b", 1001, "done", "a")


def test_who_stepped_down_waits_until_the_successor_was_granted() -> None:
    stage = Stage()
    a, b = stage.stand("a"), stage.stand("b")
    stepdown(stage)
    stage.do(Withdraw(b, ORDERS))  # the successor changes its mind
    stage.do(Release(a, ORDERS, stage.term_of(), False))
    assert stage.settle() == []
    view = good(stage.machine.election(ORDERS, stage.steward.hints(stage.now, 0)))
    assert [(one.node_id, one.reason) for one in view.candidates] == [("a", "stepped_down")]
    stage.campaign(b)
    stage.settle()
    assert stage.holder() == "b"
    stage.do(Release(b, ORDERS, stage.term_of(), True))
    stage.settle()
    assert stage.holder() == "a"


def test_who_stepped_down_is_eligible_again_after_the_cooldown() -> None:
    stage = Stage()
    a, b = stage.stand("a"), stage.stand("b")
    stepdown(stage)
    stage.do(Withdraw(b, ORDERS))
    stage.do(Release(a, ORDERS, stage.term_of(), False))
    stage.keep_all(a, until_ms=9_900)
    assert stage.holder() is None
    stage.keep_all(a, until_ms=100)
    assert stage.holder() == "a"


@pytest.mark.parametrize("successor", [None, "a", "nobody"])
def test_without_an_eligible_successor_nothing_changes(successor: str | None) -> None:
    stage = Stage()
    stage.stand("a")
    before = stage.machine.hash()
    assert code(stepdown(stage, successor)) == "no_eligible_successor"
    stage.machine.state.applied = LogIndex(stage.index - 1)
    assert stage.machine.hash() == before


def test_the_steward_refuses_a_stepdown_to_the_unhealthy_before_it_is_proposed() -> None:
    stage = Stage()
    _, b = stage.stand("a"), stage.stand("b")
    assert stage.steward.admit(engine.Stepdown(ORDERS), stage.now) is None
    stage.keep(b, health=0)
    refused = stage.steward.admit(engine.Stepdown(ORDERS), stage.now)
    assert refused is not None
    assert refused.code == "no_eligible_successor"
    assert "b: unhealthy" in refused.reason


def test_a_vacant_or_unknown_election_has_nobody_to_step_down() -> None:
    stage = Stage()
    assert code(stepdown(stage)) == "unknown_election"
    session = stage.stand("a")
    stage.do(Withdraw(session, ORDERS))
    assert code(stepdown(stage)) == "not_held"


def test_asking_again_begins_nothing_new_and_gives_no_more_time() -> None:
    stage = Stage()
    stage.stand("a")
    stage.stand("b")
    first = stepdown(stage, grace_ms=500)
    count = len(stage.transitions)
    assert stepdown(stage, grace_ms=90_000) == first
    assert len(stage.transitions) == count
    handover = stage.election().handover
    assert handover is not None
    assert handover.grace_ms == 500


def test_a_switchover_goes_to_the_named_one_whatever_the_priorities() -> None:
    stage = Stage()
    a = stage.stand("a")
    stage.stand("b", priority=9)
    stage.stand("c", priority=1)
    stepdown(stage, "c")
    stage.do(Release(a, ORDERS, stage.term_of(), False))
    stage.settle()
    assert stage.holder() == "c"
    newest, older = good(stage.machine.history(ORDERS, 2)).holdings
    assert (newest.began, older.ended) == ("switchover", "switchover")


def test_an_asker_waits_for_grace_and_a_second_unless_it_says_otherwise() -> None:
    assert wait_us(engine.Stepdown(ORDERS, grace_ms=500)) == 1_500_000
    assert wait_us(engine.Stepdown(ORDERS, wait_ms=0)) == 0


# --- reading --------------------------------------------------------------------------------------------------------


def test_a_token_is_valid_only_while_its_very_term_is_held() -> None:
    stage = Stage()
    session = stage.stand("a")
    holder = stage.machine.holder(ORDERS)
    assert holder is not None

    def reason(term: int, owner: str | None = None, election: str = ORDERS) -> tuple[str, int | None]:
        answer = stage.machine.validate(Validate(election, term, owner))
        assert answer.valid == (answer.reason == "current")
        return answer.reason, answer.current_term

    assert reason(1000) == ("current", 1000)
    assert reason(1000, holder.owner) == ("current", 1000)
    assert reason(1000, "0" * 32) == ("wrong_owner", 1000)
    assert reason(999) == ("stale", 1000)
    assert reason(1001) == ("never_issued", 1000)
    assert reason(1, election="nothing") == ("unknown_election", None)
    assert reason(1, election="Not A Name!") == ("unknown_election", None)
    stage.do(Withdraw(session, ORDERS))
    assert reason(1000) == ("not_held", 1000)


def test_an_election_is_vacant_granted_held_stepping_down_and_expiring() -> None:
    stage = Stage()

    def state() -> tuple[str, int | None]:
        view = good(stage.machine.election(ORDERS, stage.steward.hints(stage.now, stage.wall_ms)))
        return view.state, view.ttl_remaining_ms

    a = stage.open("a")
    stage.campaign(a)
    assert state() == ("vacant", None)
    stage.settle()
    assert state() == ("granted", None)
    stage.keep(a)
    assert state() == ("held", 1_000)
    stage.stand("b")
    stepdown(stage)
    assert state() == ("stepping_down", 1_000)
    stage.after(800)
    assert state() == ("expiring", 200)


def test_just_after_a_take_over_the_expiry_is_unknown() -> None:
    stage = Stage()
    a = stage.stand("a")
    stage.keep(a)
    stage.take_over()
    view = good(stage.machine.election(ORDERS, stage.steward.hints(stage.now, stage.wall_ms)))
    assert view.lease_expiry is None
    stage.keep(a)
    view = good(stage.machine.election(ORDERS, stage.steward.hints(stage.now, stage.wall_ms)))
    assert view.lease_expiry == "2027-01-15T08:00:01.000Z"


def test_times_in_the_history_are_the_commands_own() -> None:  # P10
    stage = Stage()
    session = stage.stand("a")
    stage.after(250)
    stage.do(Release(session, ORDERS, stage.term_of(), True))
    (holding,) = good(stage.machine.history(ORDERS, 5)).holdings
    start = 1_800_000_000_000
    assert [(phase.name, wall_ms_of(phase.at) - start) for phase in holding.phases] == [
        ("granted", 0),
        ("released", 250),
    ]


def test_a_bound_refuses_with_its_name_and_number() -> None:
    stage = Stage()
    session = stage.open("a")
    for number in range(limits.session_candidacies_max):
        good(stage.campaign(session, election=ElectionName(f"e{number}")))
    refused = stage.campaign(session, election=ElectionName("one-more"))
    assert code(refused) == "too_many"
    assert isinstance(refused, Refused)
    assert str(limits.session_candidacies_max) in refused.reason
    assert ElectionName("one-more") not in stage.machine.state.elections
