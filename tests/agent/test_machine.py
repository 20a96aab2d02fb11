"""Stories of one agent's decisions, on invented time."""

import os
from dataclasses import replace

import pytest

from tenure.agent import ladder
from tenure.agent.acts import (
    Action,
    Arm,
    Begin,
    Blank,
    Campaign,
    Candidate,
    CannotExecute,
    Continued,
    Demanded,
    Due,
    Executed,
    Exited,
    Finish,
    Granted,
    GuardianLost,
    Input,
    Kill,
    LeaseEnded,
    Ready,
    Refusal,
    Release,
    Renewed,
    Say,
    SigtermSent,
    Spawn,
    StopAsked,
    Stopped,
    Terminate,
    Unconfirmed,
)
from tenure.agent.machine import Machine, Policy
from tenure.agent.table import State
from tenure.base.ids import Term
from tenure.base.instants import MS, NEVER, SECOND, Instant, Micros

TTL = Micros(500 * MS)
LADDER = ladder.of(TTL)
BASE = Policy(ladder=LADDER)
T7 = Term(7)
GIVEN_BACK = Release(T7)


def crash(words: str, term: Term = T7) -> Release:
    """The office given back with a word for the history."""
    return Release(term, "crash", words)


def ended(status: str, term: Term = T7) -> Release:
    return crash(f"the application ended with status {status}", term)


FROZEN = crash("the application was frozen, and was ended before its lease, with status 137 (signal 9, SIGKILL)")


class Story:
    """A machine on a clock of its own."""

    def __init__(self, policy: Policy = BASE) -> None:
        self.machine = Machine(policy)
        self.now = Instant(1_000 * SECOND)

    def __call__(self, happened: Input, later_ms: int = 1) -> list[Action]:
        self.now = Instant(self.now + later_ms * MS)
        return [action for action in self.machine.step(happened, self.now) if not isinstance(action, Say)]

    def until_due(self) -> list[Action]:
        assert self.machine.deadline < NEVER
        self.now = max(self.now, self.machine.deadline)
        return self(Due(), 0)

    def at(self, state: State) -> bool:
        return self.machine.state is state

    @property
    def end(self) -> Instant:
        """The end of a lease that was acknowledged now."""
        return Instant(self.now + LADDER.validity_us)

    def lead(self, term: Term = T7) -> "Story":
        self(Ready())
        self(Begin())
        self(Candidate())
        self(Granted(term, f"t1.e.{term}.o", self.end))
        self(Executed(99))
        assert self.at(State.LEADING)
        return self


def kinds(actions: list[Action]) -> list[type[Action]]:
    return [type(action) for action in actions]


def test_a_grant_starts_the_application_under_the_term_with_an_end() -> None:
    story = Story()
    story(Ready())
    assert kinds(story(Begin())) == [Campaign]
    end = story.end
    assert story(Granted(T7, "t1.e.7.o", end)) == [Spawn(T7, "t1.e.7.o", LADDER.rungs(end))]
    assert story.at(State.STARTING)
    story(Executed(99))
    assert story.at(State.LEADING)
    assert story.machine.deadline == LADDER.rungs(end).sigterm_at


def test_who_cant_start_anything_yet_doesnt_stand() -> None:
    story = Story()
    assert story(Begin()) == []
    assert kinds(story(Ready())) == [Campaign]


def test_a_restart_before_the_stub_stands_waits_for_it() -> None:
    story = Story(replace(BASE, restart="always")).lead()
    story(Exited(0))
    assert story.until_due() == []
    assert kinds(story(Renewed(T7, story.end))) == []
    assert kinds(story(Ready())) == [Spawn]


def test_a_stub_that_comes_too_late_starts_nothing_and_the_office_is_given_back() -> None:
    story = Story(replace(BASE, restart="always")).lead()
    story(Exited(0))
    story.until_due()
    assert story(Ready(), 400) == []
    assert kinds(story.until_due()) == [Release, Campaign]


def test_a_renewal_that_comes_in_time_starts_what_was_too_late_before() -> None:
    story = Story()
    story(Ready())
    story(Begin())
    assert story(Granted(T7, "t", Instant(story.now + 50 * MS))) == []
    assert kinds(story(Renewed(T7, story.end))) == [Spawn, Arm]


def test_only_a_confirmed_renewal_moves_the_deadlines() -> None:
    story = Story().lead()
    before = story.machine.deadline
    story(Candidate())
    story(Unconfirmed(T7))
    story(Renewed(Term(6), Instant(story.end + SECOND)))
    assert story.machine.deadline == before
    assert kinds(story(Renewed(T7, story.end))) == [Arm]
    assert story.machine.deadline > before


def test_a_machine_that_slept_shows_a_blank_lease_until_it_is_confirmed() -> None:
    story = Story().lead()
    assert story(Unconfirmed(T7)) == [Blank(T7)]


def test_without_renewals_the_application_gets_sigterm_then_sigkill_and_the_node_stands_again() -> None:
    story = Story().lead()
    acts = story.until_due()
    assert kinds(acts) == [Terminate, Arm]
    assert story.at(State.DEMOTING)
    assert kinds(story.until_due()) == [Kill]
    assert story.at(State.KILLING)
    assert story(Exited(137)) == [Release(T7), Campaign()]
    assert story.at(State.CAMPAIGNING)


def test_a_lost_lease_with_once_ends_with_124() -> None:
    story = Story(replace(BASE, once=True)).lead()
    story(LeaseEnded(T7, "session_lost"))
    assert story.at(State.DEMOTING)
    assert story(Exited(143)) == [GIVEN_BACK, Finish(124)]


def test_grace_ends_with_the_lease_even_if_more_was_asked_for() -> None:
    story = Story(replace(BASE, grace_us=Micros(60 * SECOND))).lead()
    sigkill_at = story.machine.armed.sigkill_at if story.machine.armed else NEVER
    story(StopAsked(15))
    assert story.machine.deadline == sigkill_at


def test_renewals_go_on_while_the_application_ends_but_never_lengthen_its_grace() -> None:
    story = Story(replace(BASE, grace_us=Micros(600 * MS))).lead()
    story(StopAsked(15))
    limit = Instant(story.now + 600 * MS)
    for _ in range(3):
        [arm] = story(Renewed(T7, Instant(story.end + 400 * MS)), 100)
        assert isinstance(arm, Arm)
        assert arm.rungs.sigkill_at <= limit
    assert story.machine.deadline == limit


def test_a_demand_is_answered_with_a_release_once_the_application_is_gone() -> None:
    story = Story().lead()
    assert kinds(story(Demanded(T7, "b", Instant(story.now + 5 * SECOND)))) == [Terminate, Arm]
    assert story(Exited(0)) == [Release(T7), Campaign()]


def test_the_time_of_a_demand_limits_the_grace() -> None:
    story = Story().lead()
    story(Demanded(T7, None, Instant(story.now + 200 * MS)))
    assert story.machine.deadline <= story.now + 180 * MS


def test_an_application_that_ends_by_itself_gives_its_code_to_the_agent() -> None:
    story = Story().lead()
    assert story(Exited(7)) == [ended("7"), Finish(7)]
    assert story.at(State.IDLE)


@pytest.mark.parametrize(("errno", "code"), [(2, 127), (13, 126), (8, 126)])
def test_what_cant_be_executed_ends_with_126_or_127_whatever_restart_says(errno: int, code: int) -> None:
    story = Story(replace(BASE, restart="always"))
    story(Ready())
    story(Begin())
    story(Granted(T7, "t", story.end))
    story(CannotExecute(errno))
    assert story(Exited(127)) == [crash(f"the command can't be executed: {os.strerror(errno)}"), Finish(code)]


def test_restart_in_place_keeps_term_and_office() -> None:
    story = Story(replace(BASE, restart="on-failure")).lead()
    assert story(Exited(1)) == []
    assert story.at(State.BACKOFF)
    story(Ready())
    story(Renewed(T7, story.end), 90)
    [spawn] = story.until_due()
    assert isinstance(spawn, Spawn)
    assert spawn.term == T7


def test_success_is_not_restarted_on_failure_but_always_is() -> None:
    assert Story(replace(BASE, restart="on-failure")).lead()(Exited(0)) == [
        Release(T7, "released", "the application ended with status 0"),
        Finish(0),
    ]
    story = Story(replace(BASE, restart="always")).lead()
    assert story(Exited(0)) == []
    assert story.at(State.BACKOFF)


def test_too_many_restarts_give_the_office_up_and_keep_the_node_away_for_longer_each_time() -> None:
    story = Story(replace(BASE, restart="always", restarts_max=2, quarantine_us=Micros(10 * SECOND)))
    stays: list[int] = []
    acts: list[Action] = []
    story(Begin())
    for term in (Term(7), Term(8)):
        story(Ready())
        story(Granted(term, "t", story.end))
        for attempt in range(3):
            story(Executed(100 + attempt))
            acts = story(Exited(1))
            story(Ready())
            if attempt < 2:
                story(Renewed(term, Instant(story.end + SECOND)))
                story.until_due()
        assert acts == [ended("1", term)]
        assert story.at(State.QUARANTINED)
        stays.append(story.machine.deadline - story.now)
        assert story.until_due() == [Campaign()]
    assert stays[1] > stays[0] * 3 // 2


def test_keep_holds_the_office_without_a_process_until_it_is_lost() -> None:
    story = Story(replace(BASE, on_exit="keep")).lead()
    assert story(Exited(0)) == []
    assert story.at(State.BACKOFF)
    assert story.machine.deadline == NEVER
    assert story(LeaseEnded(T7, "expired")) == [Release(T7), Campaign()]


def test_an_office_kept_after_a_crash_and_stopped_later_is_no_crash() -> None:
    story = Story(replace(BASE, on_exit="keep")).lead()
    story(Exited(3))
    story(Renewed(T7, story.end), 90)
    assert story(StopAsked(15)) == [GIVEN_BACK, Finish(3)]


def test_a_stopped_application_gets_no_renewals_and_so_ends_before_its_lease() -> None:
    story = Story().lead()
    armed = story.machine.armed
    story(Stopped())
    for _ in range(3):
        assert story(Renewed(T7, story.end), 100) == []
    assert story.machine.armed == armed
    assert kinds(story.until_due()) == [Terminate, Arm]
    story.until_due()
    assert story(Exited(137)) == [FROZEN, Finish(137)]


def test_a_frozen_application_that_sigterm_woke_gets_no_grace_beyond_its_lease() -> None:
    story = Story().lead()
    story(Stopped())
    story(Renewed(T7, story.end), 100)
    story.until_due()
    story(Continued())
    before = story.machine.deadline
    story(Renewed(T7, story.end))
    assert story.machine.deadline == before


def test_an_application_that_goes_on_in_time_is_renewed_at_once() -> None:
    story = Story().lead()
    story(Stopped())
    story(Renewed(T7, story.end), 100)
    [arm] = story(Continued())
    assert isinstance(arm, Arm)
    assert arm.rungs == story.machine.rungs


def test_a_frozen_application_with_restart_lets_another_node_lead_first() -> None:
    story = Story(replace(BASE, restart="always")).lead()
    story(Stopped())
    story.until_due()
    assert story(Exited(137)) == [FROZEN, Campaign()]


def test_stop_while_nothing_runs_ends_at_once_with_0() -> None:
    story = Story()
    story(Begin())
    assert story(StopAsked(15)) == [Finish(0)]


def test_stop_lets_the_application_end_and_takes_its_code() -> None:
    story = Story().lead()
    assert kinds(story(StopAsked(15))) == [Terminate, Arm]
    assert story(Exited(143)) == [GIVEN_BACK, Finish(143)], "whoever stopped it is no crash"


def test_a_second_stop_kills() -> None:
    story = Story().lead()
    story(StopAsked(2))
    assert story(StopAsked(2)) == [Kill()]
    assert story(Exited(137)) == [GIVEN_BACK, Finish(137)]


def test_a_stop_between_grant_and_exec_kills_what_is_starting() -> None:
    story = Story()
    story(Ready())
    story(Begin())
    story(Granted(T7, "t", story.end))
    assert story(StopAsked(15)) == [Kill()]
    assert story(Executed(99)) == []
    assert story(Exited(137)) == [GIVEN_BACK, Finish(137)]


def test_try_ends_with_3_when_another_leads() -> None:
    story = Story(replace(BASE, try_=True))
    story(Ready())
    story(Begin())
    story(Candidate())
    assert story.until_due() == [Finish(3)]


def test_try_ends_with_125_when_nobody_answers() -> None:
    story = Story(replace(BASE, try_=True))
    story(Ready())
    story(Begin())
    assert story.until_due() == [Finish(125)]


def test_a_refusal_while_standing_ends_with_125_and_is_no_matter_while_leading() -> None:
    story = Story()
    story(Ready())
    story(Begin())
    assert story(Refusal("denied")) == [Finish(125)]
    assert Story().lead()(Refusal("denied")) == []


def test_a_killed_guardian_counts_as_the_application_killed() -> None:
    assert Story().lead()(GuardianLost(137)) == [ended("137 (signal 9, SIGKILL)"), Finish(137)]


def test_an_agent_that_was_stopped_itself_finds_its_lease_lost_and_not_its_application_at_fault() -> None:
    story = Story().lead()
    assert story(GuardianLost(137), 5_000) == [Release(T7), Campaign()]


def test_a_guardian_that_cant_stand_ends_with_125() -> None:
    story = Story()
    story(Begin())
    assert story(GuardianLost(1)) == [Finish(125)]


def test_an_idle_guardian_that_was_killed_is_replaced_without_a_word_to_the_cluster() -> None:
    story = Story()
    story(Begin())
    story(Ready())
    assert story(GuardianLost(137)) == []
    assert story.at(State.CAMPAIGNING)


def test_the_guardian_acting_first_is_the_same_as_the_agent_acting() -> None:
    story = Story().lead()
    assert kinds(story(SigtermSent())) == [Terminate, Arm]
    assert story.machine.why == "lost"


def test_news_of_an_older_term_means_nothing() -> None:
    story = Story().lead()
    assert story(LeaseEnded(Term(6), "revoked")) == []
    assert story(Demanded(Term(6), None, story.now)) == []
    assert story.at(State.LEADING)
