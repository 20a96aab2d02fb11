"""The autopilot's judgement: a table of situations, and what holds in any of them, against a slow twin that tries every
single change and asks of each whether it may be.
"""

from collections.abc import Callable, Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenure.base.ids import Boot, LogIndex, MemberId
from tenure.base.instants import MS, SECOND, Instant
from tenure.engines.native.autopilot import Act, Memory, Stay, View, Watched, decide, look_every_us, wanted
from tenure.leadership.engine import AutopilotSettings
from tenure.raft import membership
from tenure.raft.census import Sight
from tenure.raft.entries import Configuration, Seat, Wanted
from tenure.raft.membership import Promote, Refusal, Remove

DEAD_MS = 300_000
STEADY_MS = 10_000
LAG_MAX = 1_000
BOOT = Boot("b" * 16)


def member_id(name: str) -> MemberId:
    """`m3b` is who came back at the name and address of `m3`."""
    return MemberId(f"{int(name.strip('mb')) + (100 if name.endswith('b') else 0):016x}")


def view(
    members: str,
    *,
    settings: AutopilotSettings | None = None,
    made: tuple[int, int] | None = None,
    change_pending: bool = False,
    handing_over: bool = False,
) -> View:
    """`m1 m2 m3:dead m4:standby`: the first leads; voters if nothing else is said of them.

    Words: observer, standby, witness, standby-witness (roles); dead, silent (not for long enough yet), unseen (by the
    leader alone), lagging, fresh (has not been steady for long), known (the first standby hears it), answering (the
    leader, though lost to the others). `made`: voters and witnesses wanted, when they aren't just what there is.
    """
    words = [(name, set(rest.split(","))) for name, _, rest in (part.partition(":") for part in members.split())]
    me = member_id(words[0][0])
    seats = tuple(_seat(name, said) for name, said in words)
    here = frozenset(member_id(name) for name, said in words if not said & {"dead", "silent"})
    standbys = frozenset(seat.id for seat in seats if seat.standby != "no")
    watched: dict[MemberId, Watched] = {}
    for name, said in words[1:]:
        lost = bool(said & {"dead", "silent"})
        unheard_by = here if lost else frozenset({me}) if "unseen" in said else frozenset()
        if "known" in said:
            unheard_by -= standbys
        lag = 5 * LAG_MAX if "lagging" in said else 0
        answers = (not lost and "unseen" not in said) or "answering" in said
        silent_ms = DEAD_MS if "dead" in said else DEAD_MS - 1 if "silent" in said else 0
        steady_ms = STEADY_MS - 1 if "fresh" in said else 0 if lost else STEADY_MS
        watched[member_id(name)] = Watched(Sight(answers, unheard_by, lag, BOOT), silent_ms, steady_ms)
    configuration = Configuration(LogIndex(7), seats, wanted=Wanted(*made) if made else None)
    return View(settings or AutopilotSettings(), configuration, me, watched, change_pending, handing_over, LAG_MAX)


def _seat(name: str, said: set[str]) -> Seat:
    plain = name.rstrip("b")
    seat = Seat(member_id(name), plain, f"{plain}:1")
    if said & {"standby", "standby-witness"}:
        standby = "voter" if "standby" in said else "witness"
        return msgspec.structs.replace(seat, role="observer", standby=standby)
    role = "witness" if "witness" in said else "observer" if "observer" in said else "voter"
    return msgspec.structs.replace(seat, role=role)


def said(verdict: Act | Stay) -> str:
    return f"{verdict.kind} {verdict.member}" if isinstance(verdict, Act) else verdict.code


@pytest.mark.parametrize(
    ("members", "made", "expected"),
    [
        ("m1", None, "healthy"),
        ("m1 m2 m3", None, "healthy"),
        ("m1 m2 m3 m4:standby", None, "healthy"),
        # a dead voter
        ("m1 m2 m3:silent m4:standby", None, "silent"),
        ("m1 m2 m3:unseen m4:standby", None, "healthy"),
        ("m1 m2 m3:dead", None, "no_standby"),
        ("m1 m2 m3:dead m4:observer", None, "no_standby"),
        ("m1 m2 m3:dead m4:standby", None, "promote m4"),
        ("m1 m2 m3:dead m4:standby,lagging", None, "standby_behind"),
        ("m1 m2 m3:dead m4:standby,dead", None, "standby_behind"),
        ("m1 m2 m3:dead m4:standby,unseen", None, "standby_behind"),
        ("m1 m2 m3:dead m4:standby,fresh", None, "standby_settling"),
        ("m1 m2 m3:dead m4:standby,lagging m5:standby", None, "promote m5"),
        ("m1 m2 m3:dead,known m4:standby", None, "standby_hears"),
        # the second half of a replacement: its wish stands in the configuration
        ("m1 m2 m3:dead m4", (3, 0), "remove m3"),
        ("m1 m2 m3:silent m4", (3, 0), "silent"),
        ("m1 m2 m3 m4", (3, 0), "surplus"),
        # more than one
        ("m1 m2 m3 m4:dead m5:dead m6:standby", None, "promote m6"),
        ("m1 m2 m3 m4:dead m5:dead m6", (5, 0), "remove m4"),
        ("m1 m2 m3 m5:dead m6", (5, 0), "no_standby"),
        ("m1 m2 m3 m4:unseen m5:dead,answering m6:dead m7:dead", (6, 0), "remove m6"),
        ("m1 m2 m3 m5:dead m6 m7:standby", (5, 0), "promote m7"),
        # nothing that the quorum would not survive
        ("m1 m2:dead m3:dead m4:standby", None, "no_quorum"),
        ("m1 m2:unseen m3:dead m4:standby", None, "no_quorum"),
        ("m1 m2:dead m3:standby", None, "no_quorum"),
        # seven vote already: the dead one goes first, if somebody is there to come
        ("m1 m2 m3 m4 m5 m6 m7:dead m8:standby", None, "remove m7"),
        ("m1 m2 m3 m4 m5 m6 m7:dead", None, "no_standby"),
        ("m1 m2 m3 m4 m5 m6 m8:standby", (7, 0), "promote m8"),
        # witnesses
        ("m1 m2 m3:witness,dead m4:standby", None, "no_standby"),
        ("m1 m2 m3:witness m4:standby-witness", None, "healthy"),
        ("m1 m2 m3:witness,dead m4:standby-witness", None, "remove m3"),
        ("m1 m2 m4:standby-witness", (3, 1), "promote m4"),
        ("m1 m2 m3 m4 m5:witness,dead m6:standby-witness", None, "promote m6"),
        ("m1 m2 m3 m4 m5:witness,dead m6:witness", (5, 1), "remove m5"),
        ("m1 m2:dead m3:witness m4:standby", None, "promote m4"),
        ("m1 m2:dead m3:witness m4:standby-witness", None, "no_standby"),
        # a member that came back under a new id takes its own place before any other
        ("m1 m2 m3:dead m4:standby m3b:standby", None, "promote m3"),
        ("m1 m2 m3:dead m3b", (3, 0), "remove m3"),
        # observers stay, dead or not
        ("m1 m2 m3 m4:observer,dead", None, "healthy"),
    ],
)
def test_what_follows_in_each_situation(members: str, made: tuple[int, int] | None, expected: str) -> None:
    assert said(decide(view(members, made=made))) == expected


@pytest.mark.parametrize(
    ("members", "settings", "expected"),
    [
        ("m1 m2 m3:dead m4:standby", AutopilotSettings(enabled=False), "off"),
        ("m1 m2 m3:silent m4:standby", AutopilotSettings(dead_after_ms=DEAD_MS - 1), "promote m4"),
        ("m1 m2 m3:dead m4:standby,fresh", AutopilotSettings(stabilise_ms=STEADY_MS - 1), "promote m4"),
        ("m1 m2 m3 m4:standby", AutopilotSettings(voters_wanted=4), "promote m4"),
        ("m1 m2 m3 m4:standby", AutopilotSettings(voters_wanted=5), "promote m4"),
        ("m1 m2 m3", AutopilotSettings(voters_wanted=5), "no_standby"),
        ("m1 m2 m3 m4 m5:dead", AutopilotSettings(voters_wanted=3), "remove m5"),
        ("m1 m2 m3 m4 m5", AutopilotSettings(voters_wanted=3), "surplus"),
        ("m1 m2:dead m3:witness", AutopilotSettings(voters_wanted=1), "no_room"),
        ("m1 m2 m3 m4:observer,dead", AutopilotSettings(observers_dead_after_ms=DEAD_MS), "remove m4"),
        ("m1 m2 m3 m4:observer,silent", AutopilotSettings(observers_dead_after_ms=DEAD_MS), "healthy"),
    ],
)
def test_what_the_settings_make_of_it(members: str, settings: AutopilotSettings, expected: str) -> None:
    assert said(decide(view(members, settings=settings))) == expected


def test_nothing_is_changed_while_a_change_is_under_way() -> None:
    lacking = "m1 m2 m3:dead m4:standby"
    assert said(decide(view(lacking, change_pending=True))) == "change_pending"
    assert said(decide(view(lacking, handing_over=True))) == "handing_over"


def test_a_reason_stays_the_same_while_it_lasts() -> None:
    """It is told when it changes; so no figure in it may grow."""
    first = view("m1 m2 m3:dead m4:standby,lagging m5:standby,lagging")
    later = {
        member: Watched(msgspec.structs.replace(one.sight, lag=one.sight.lag + 7), one.silent_ms + 9, one.steady_ms)
        for member, one in first.watched.items()
    }
    assert decide(msgspec.structs.replace(first, watched=later)) == decide(first)


# --- in any situation -------------------------------------------------------------------------------------------------


KINDS: tuple[Callable[[Seat], Seat], ...] = (
    lambda seat: seat,
    lambda seat: seat,
    lambda seat: msgspec.structs.replace(seat, role="witness"),
    lambda seat: msgspec.structs.replace(seat, role="observer"),
    lambda seat: msgspec.structs.replace(seat, role="observer", standby="voter"),
    lambda seat: msgspec.structs.replace(seat, role="observer", standby="witness"),
)


@st.composite
def views(draw: st.DrawFn) -> View:
    """Members of any kind, seen in any way, possible or not; figures around the limits."""
    count = draw(st.integers(1, 9))
    seats: list[Seat] = []
    for number in range(1, count + 1):
        place = draw(st.integers(1, number))
        seat = Seat(MemberId(f"{number:016x}"), f"m{place}", f"m{place}:1")
        if number > 1:
            seat = draw(st.sampled_from(KINDS))(seat)
        if seat.role != "observer" and sum(seat.role != "observer" for seat in seats) == 7:
            seat = msgspec.structs.replace(seat, role="observer")
        seats.append(seat)
    ids = [seat.id for seat in seats]
    watched = {}
    for seat in seats[1:]:
        unheard_by = draw(st.frozensets(st.sampled_from(ids))) if draw(st.booleans()) else frozenset(ids)
        lag = draw(st.sampled_from([0, LAG_MAX, LAG_MAX + 1]))
        sight = Sight(draw(st.booleans()), unheard_by - {seat.id}, lag, BOOT)
        silent_ms, steady_ms = draw(st.sampled_from([0, 999, 1_000, 2_000])), draw(st.sampled_from([0, 499, 500]))
        watched[seat.id] = Watched(sight, silent_ms, steady_ms)
    made = draw(st.none() | st.builds(Wanted, st.integers(1, 7), st.integers(0, 3)))
    settings = AutopilotSettings(
        draw(st.integers(0, 9)) > 0, 1_000, 500, draw(st.none() | st.integers(1, 7)), draw(st.none() | st.just(2_000))
    )
    configuration = Configuration(LogIndex(3), tuple(seats), wanted=made)
    rarely = st.integers(0, 9)
    return View(settings, configuration, ids[0], watched, draw(rarely) == 0, draw(rarely) == 0, LAG_MAX)


def is_majority(count: int, voters: int) -> bool:
    return 2 * count > voters


def is_lost(given_: View, member: MemberId, voters: tuple[MemberId, ...]) -> bool:
    return is_majority(len(given_.watched[member].sight.unheard_by & set(voters)), len(voters))


def dead(given_: View, role: str, after_ms: int) -> list[MemberId]:
    """Longest first."""
    voters = given_.configuration.voters()
    found = [
        seat.id
        for seat in given_.configuration.seats
        if seat.role == role
        and seat.id != given_.me
        and is_lost(given_, seat.id, voters)
        and given_.watched[seat.id].silent_ms >= after_ms
    ]
    return sorted(found, key=lambda member: (-given_.watched[member].silent_ms, member))


def ready(given_: View, role: str) -> Iterator[MemberId]:
    """Standbys that may be promoted."""
    voters, gone = given_.configuration.voters(), dead(given_, role, given_.settings.dead_after_ms)
    for seat in given_.configuration.seats:
        if seat.role != "observer" or seat.standby != role:
            continue
        one = given_.watched[seat.id]
        steady = one.sight.answers and one.sight.lag <= given_.lag_max and one.steady_ms >= 500
        hears = bool(gone) and not is_lost(given_, gone[0], (*voters, seat.id))
        if steady and not is_lost(given_, seat.id, voters) and not hears:
            yield seat.id


def answered(given_: View, voters: tuple[MemberId, ...]) -> bool:
    live = [voter for voter in voters if voter == given_.me or given_.watched[voter].sight.answers]
    return is_majority(len(live), len(voters))


def allowed(given_: View) -> set[tuple[str, MemberId]]:
    """The slow twin: every single change that may be made."""
    if not given_.settings.enabled or given_.change_pending or given_.handing_over:
        return set()
    now = given_.configuration
    if not answered(given_, now.voters()):
        return set()
    total = wanted(given_.settings, now)
    found: list[Promote | Remove] = []
    for role, number in (("voter", total.voters - total.witnesses), ("witness", total.witnesses)):
        here = sum(seat.role == role for seat in now.seats)
        gone = dead(given_, role, given_.settings.dead_after_ms)
        if here > number:
            found += [Remove(member) for member in gone]
        if here - len(gone) < number:
            for member in ready(given_, role):
                promoted = Promote(member, role)  # type: ignore[arg-type]  # one of the two
                if not isinstance(membership.next_change(now, promoted), Refusal):
                    found.append(promoted)
                elif gone:
                    found.append(Remove(gone[0]))
    if given_.settings.observers_dead_after_ms is not None:
        found += [Remove(member) for member in dead(given_, "observer", given_.settings.observers_dead_after_ms)]
    possible = set()
    for wish in found:
        then = membership.next_change(now, wish)
        if isinstance(then, Configuration) and answered(given_, then.voters()):
            possible.add((type(wish).__name__, wish.member))
    return possible


@given(views())
def test_it_makes_a_change_exactly_if_one_may_be_made_and_then_one_of_those(given_: View) -> None:
    verdict, may = decide(given_), allowed(given_)
    if isinstance(verdict, Act):
        assert (type(verdict.wish).__name__, verdict.wish.member) in may
    else:
        assert not may


@given(views())
def test_one_change_at_a_time_that_the_quorum_survives(given_: View) -> None:
    verdict = decide(given_)
    if not isinstance(verdict, Act):
        return
    now = given_.configuration
    then = membership.next_change(now, verdict.wish)
    assert isinstance(then, Configuration)
    assert len(set(then.seats) ^ set(now.seats)) <= 2, "one seat came, went or changed"
    assert len(set(then.voters()) ^ set(now.voters())) <= 1
    assert answered(given_, then.voters())
    assert given_.me in then.voters()


@given(views())
def test_who_is_heard_is_never_removed_nor_by_the_leaders_view_alone(given_: View) -> None:
    verdict = decide(given_)
    if isinstance(verdict, Act) and isinstance(verdict.wish, Remove):
        gone = given_.watched[verdict.wish.member]
        voters = given_.configuration.voters()
        assert is_majority(len(gone.sight.unheard_by & set(voters)), len(voters))
        assert gone.silent_ms >= 1_000


@given(views())
def test_a_removal_never_leaves_fewer_than_are_wanted_unless_somebody_waits_to_come(given_: View) -> None:
    verdict = decide(given_)
    if not isinstance(verdict, Act) or not isinstance(verdict.wish, Remove):
        return
    seat = given_.configuration.seat(verdict.wish.member)
    assert seat is not None
    if seat.role == "observer":
        return
    total = wanted(given_.settings, given_.configuration)
    number = total.witnesses if seat.role == "witness" else total.voters - total.witnesses
    left = sum(one.role == seat.role for one in given_.configuration.seats) - 1
    assert left >= number or any(ready(given_, seat.role))


@given(views())
def test_by_its_own_steps_it_comes_to_rest(given_: View) -> None:
    """Applied again and again to what it has made, with nothing else changing, it ends."""
    for _ in range(20):
        verdict = decide(given_)
        if not isinstance(verdict, Act):
            return
        then = membership.next_change(given_.configuration, verdict.wish)
        assert isinstance(then, Configuration)
        then = membership.intends(given_.configuration, then, heals=True)
        watched = {member: one for member, one in given_.watched.items() if then.seat(member) is not None}
        given_ = msgspec.structs.replace(given_, configuration=then, watched=watched)
    raise AssertionError(f"no rest: {decide(given_)}")


# --- what is remembered ----------------------------------------------------------------------------------------------

M2 = MemberId(f"{2:016x}")
THREE = tuple(MemberId(f"{number:016x}") for number in (1, 2, 3))


def sight(*, unheard_by: int = 0, lag: int = 0, boot: Boot = BOOT) -> dict[MemberId, Sight]:
    return {M2: Sight(unheard_by == 0, frozenset((THREE[0], THREE[2])[:unheard_by]), lag, boot)}


def test_silence_and_steadiness_count_from_the_first_look() -> None:
    memory = Memory(Instant(0))
    for second in range(1, 4):
        now = Instant(second * SECOND)
        one = memory.look(sight(unheard_by=2), THREE, LAG_MAX, now, SECOND)[M2]
        assert (one.silent_ms, one.steady_ms) == ((second - 1) * 1_000, 0)
    one = memory.look(sight(), THREE, LAG_MAX, Instant(4 * SECOND), SECOND)[M2]
    assert (one.silent_ms, one.steady_ms) == (0, 0)
    one = memory.look(sight(), THREE, LAG_MAX, Instant(5 * SECOND), SECOND)[M2]
    assert (one.silent_ms, one.steady_ms) == (0, 1_000)


def test_who_is_unheard_by_the_leader_alone_is_not_silent() -> None:  # P7.4
    memory = Memory(Instant(0))
    for second in range(1, 9):
        one = memory.look(sight(unheard_by=1), THREE, LAG_MAX, Instant(second * SECOND), SECOND)[M2]
        assert (one.silent_ms, one.steady_ms) == (0, 0)


def test_time_that_the_leader_slept_through_makes_nobody_dead() -> None:
    memory = Memory(Instant(0))
    memory.look(sight(unheard_by=2), THREE, LAG_MAX, Instant(1 * SECOND), SECOND)
    one = memory.look(sight(unheard_by=2), THREE, LAG_MAX, Instant(900 * SECOND), SECOND)[M2]
    assert one.silent_ms == 2_000


def test_lag_and_another_life_begin_steadiness_anew() -> None:
    memory = Memory(Instant(0))

    def steady(at: int, **seen: int | Boot) -> int:
        return memory.look(sight(**seen), THREE, LAG_MAX, Instant(at * SECOND), SECOND)[M2].steady_ms  # type: ignore[arg-type]  # the parameters of `sight`

    assert [steady(1), steady(2), steady(3)] == [0, 0, 1_000]
    assert steady(4, lag=LAG_MAX + 1) == 0
    assert [steady(5), steady(6)] == [0, 1_000]
    other = Boot("c" * 16)
    assert [steady(7, boot=other), steady(8, boot=other), steady(9, boot=other)] == [0, 0, 1_000]


def test_who_has_left_is_forgotten() -> None:
    memory = Memory(Instant(0))
    memory.look(sight(), THREE, LAG_MAX, Instant(SECOND), SECOND)
    assert memory.look({}, THREE, LAG_MAX, Instant(2 * SECOND), SECOND) == {}
    assert not memory.boots
    assert not memory.silent_us


def test_it_looks_often_enough_for_what_it_waits_for() -> None:
    assert look_every_us(AutopilotSettings()) == SECOND
    assert look_every_us(AutopilotSettings(dead_after_ms=2_000, stabilise_ms=1_000)) == 100 * MS
    assert look_every_us(AutopilotSettings(dead_after_ms=1_000, stabilise_ms=0)) == 100 * MS
    assert look_every_us(AutopilotSettings(stabilise_ms=1)) == 50 * MS
