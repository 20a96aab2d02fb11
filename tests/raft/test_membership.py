"""The arithmetic of configurations beside a slow, obvious twin: all configurations of up to five members (P7, P8)."""

import re
from collections.abc import Iterator
from functools import cache
from itertools import combinations, permutations, product

import msgspec
import pytest

from tenure.base.ids import LogIndex, MemberId
from tenure.raft.entries import Configuration, Left, Replacing, Seat, voters_max
from tenure.raft.membership import (
    Add,
    Amend,
    Demote,
    Promote,
    Refusal,
    Remove,
    Replace,
    Wish,
    at,
    members_max,
    next_change,
    refusal,
    removed_kept_max,
)

IDS = tuple(MemberId(name) for name in "abcde")
ROLES = ("voter", "witness", "observer", None, "removed")


def seat_of(member: str, role: str = "observer") -> Seat:
    return Seat(MemberId(member), f"name-{member}", f"host-{member}:1", role)  # type: ignore[arg-type]


def made(roles: dict[str, str | None]) -> Configuration:
    seats = tuple(seat_of(member, role) for member, role in roles.items() if role not in (None, "removed"))
    removed = tuple(MemberId(member) for member, role in roles.items() if role == "removed")
    return Configuration(LogIndex(1), seats, removed)


def holds_state(roles: dict[str, str | None]) -> bool:
    """Somebody holds the state in every majority of those who vote: whatever was decided can be handed on."""
    voting = tuple(member for member, role in roles.items() if role in ("voter", "witness"))
    return all(any(roles[member] == "voter" for member in group) for group in majorities(voting))


def allowed(roles: dict[str, str | None]) -> bool:
    """The twin of `refusal`, in the issue's words: fewer witnesses than half, and seven voters at the most."""
    kinds = list(roles.values())
    return kinds.count("witness") < kinds.count("voter") and kinds.count("witness") + kinds.count("voter") <= voters_max


@cache
def majorities(voters: tuple[str, ...]) -> tuple[frozenset[str], ...]:
    """Every group of more than half."""
    sizes = range(len(voters) // 2 + 1, len(voters) + 1)
    return tuple(frozenset(group) for size in sizes for group in combinations(voters, size))


@cache
def meet(now: tuple[str, ...], then: tuple[str, ...]) -> bool:
    """Whatever decided before, and whatever decides after, have somebody in common (thesis §4.1)."""
    return all(one & other for one in majorities(now) for other in majorities(then))


def configurations() -> Iterator[dict[str, str | None]]:
    """All that could ever be, of up to five members, with ids that have left."""
    for roles in product(ROLES, repeat=len(IDS)):
        by_id: dict[str, str | None] = dict(zip(IDS, roles, strict=True))
        if allowed(by_id) and list(roles).count("removed") <= 1:
            yield by_id


def wishes() -> Iterator[Wish]:
    for member in IDS:
        yield Add(seat_of(member))
        yield Promote(member)
        yield Promote(member, "witness")
        yield Demote(member)
        yield Remove(member)
        for other in IDS:
            yield Replace(member, other)
            yield Replace(member, other, "witness")


def fulfilled(roles: dict[str, str | None], wish: Wish) -> bool:
    """What the wish says, read from who has which role."""
    match wish:
        case Add():
            return roles[wish.seat.id] in ("voter", "witness", "observer")
        case Promote():
            return roles[wish.member] == wish.role
        case Demote():
            return roles[wish.member] == "observer"
        case Remove():
            return roles[wish.member] == "removed"
        case Replace():
            return roles[wish.by] == wish.role and roles[wish.member] == "removed"
        case Amend():
            raise AssertionError("has a story of its own")


def roles_of(configuration: Configuration) -> dict[str, str | None]:
    roles: dict[str, str | None] = dict.fromkeys(IDS)
    roles |= dict.fromkeys(configuration.removed, "removed")
    return roles | {seat.id: seat.role for seat in configuration.seats}


def walk(now: Configuration, wish: Wish) -> list[Configuration] | Refusal:
    """All steps to the wish, as they are taken one after the other."""
    steps: list[Configuration] = []
    for _ in range(4):
        then = next_change(now, wish)
        if then is None:
            return steps
        if isinstance(then, Refusal):
            return then
        steps.append(then)
        now = then
    raise AssertionError(f"no end to {wish} from {now}")


def test_every_step_is_sound_and_its_quorums_meet_those_before() -> None:
    count = 0
    for roles in configurations():
        start = made(roles)
        for wish in wishes():
            now = start
            steps = walk(start, wish)
            if isinstance(steps, Refusal):
                assert next_change(start, wish) == steps, "nothing is begun that can't be ended"
                continue
            for then in steps:
                count += 1
                before, after = now.voters(), then.voters()
                assert len(set(before) ^ set(after)) <= 1, "one voter at a time"
                assert meet(tuple(sorted(before)), tuple(sorted(after)))
                assert allowed(roles_of(then)), then
                assert holds_state(roles_of(then)), then
                assert set(now.removed) <= set(then.removed)
                assert not set(then.removed) & set(then.members()), "a removed id never returns"
                now = then
    assert count > 9_000, count


def test_a_wish_that_is_not_refused_comes_true_and_is_then_nothing_to_do() -> None:
    for roles in configurations():
        start = made(roles)
        for wish in wishes():
            steps = walk(start, wish)
            if isinstance(steps, Refusal):
                assert not fulfilled(roles, wish) or isinstance(wish, Replace), (roles, wish, steps)
                continue
            end = roles_of(steps[-1]) if steps else roles
            assert fulfilled(end, wish), (roles, wish)
            touched = {member for member in IDS if end[member] != roles[member]}
            match wish:
                case Add():
                    assert touched <= {wish.seat.id}
                case Replace():
                    assert touched <= {wish.member, wish.by}
                case _:
                    assert touched <= {wish.member}


def test_what_is_refused_would_strand_data_or_names_what_is_not_there() -> None:
    """Nothing that is possible is refused: each code has its reason in the roles."""
    for roles in configurations():
        for wish in wishes():
            first = next_change(made(roles), wish)
            if not isinstance(first, Refusal):
                continue
            advice = re.search(r"\b(remove|add|demote|promote|wait|give|empty)\b", first.text)
            assert advice is None, f"the code says what to do, so it would be told twice: {first.text}"
            match first.code:
                case "was_removed":
                    named = {wish.seat.id} if isinstance(wish, Add) else {getattr(wish, "by", None), wish_member(wish)}
                    assert any(roles.get(member or "") == "removed" for member in named)
                case "unknown_member":
                    assert any(roles[member] is None for member in involved(wish))
                case "witness_stays":
                    assert any(roles[member] in ("witness", "voter") for member in involved(wish))
                case "id_in_use":
                    assert isinstance(wish, Replace)
                    assert wish.member == wish.by
                case "last_voter" | "too_many_witnesses":
                    after = {**roles, **wanted(roles, wish)}
                    end = {**roles, **ended(wish)} if isinstance(wish, Replace) else after
                    assert not (allowed(after) and allowed(end)), (roles, wish, first)
                case "not_observer":
                    assert isinstance(wish, Replace)
                    assert roles[wish.by] == wish.role
                    assert roles[wish.member] not in (None, "removed")
                case "not_voter":
                    assert isinstance(wish, Replace)
                    assert roles[wish.member] == roles[wish.by] == "observer"
                case _:
                    raise AssertionError(first)


def wish_member(wish: Wish) -> MemberId:
    return wish.seat.id if isinstance(wish, Add) else wish.member


def involved(wish: Wish) -> set[MemberId]:
    return {wish_member(wish)} | ({wish.by} if isinstance(wish, Replace) else set())


def ended(wish: Replace) -> dict[str, str | None]:
    return {wish.member: "removed", wish.by: wish.role}


def wanted(roles: dict[str, str | None], wish: Wish) -> dict[str, str | None]:
    """The role that the first step of a wish gives."""
    match wish:
        case Promote():
            return {wish.member: wish.role}
        case Demote():
            return {wish.member: "observer"}
        case Remove():
            return {wish.member: "removed"}
        case Replace() if roles[wish.by] == wish.role:
            return {wish.member: "removed"}
        case Replace():
            return {wish.by: wish.role}
        case _:
            return {}


def test_two_changes_at_once_may_decide_apart() -> None:
    """P7.2: why a replacement is two changes. The twin finds the groups that never meet."""
    assert not meet(("a", "b", "c"), ("a", "b", "d"))
    assert meet(("a", "b", "c"), ("a", "b", "c", "d"))
    assert meet(("a", "b", "c", "d"), ("a", "b", "d"))


@pytest.mark.parametrize("witnesses", [0, 1, 2, 3])
def test_at_seven_voters_the_old_one_goes_first(witnesses: int) -> None:
    names = [f"m{number}" for number in range(8)]
    roles = dict.fromkeys(names[:7], "voter") | dict.fromkeys(names[7 - witnesses : 7], "witness")
    start = made({**roles, names[7]: "observer"})
    assert refusal(start) == start
    promoted = next_change(start, Promote(MemberId(names[7])))
    assert isinstance(promoted, Refusal)
    assert promoted.code == "too_many_voters"
    steps = walk(start, Replace(MemberId(names[0]), MemberId(names[7])))
    if witnesses == 3:  # six voters with three witnesses could strand data: first demote or replace a witness
        assert isinstance(steps, Refusal)
        assert steps.code == "too_many_witnesses"
        return
    assert isinstance(steps, list)
    assert [len(step.voters()) for step in steps] == [6, 7]
    assert meet(start.voters(), steps[0].voters())
    assert meet(steps[0].voters(), steps[1].voters())


def step(now: Configuration, wish: Wish) -> Configuration:
    """One step, as it stands in the log."""
    then = next_change(now, wish)
    assert isinstance(then, Configuration), then
    return at(now, then, LogIndex(now.index + 1))


def code_of(now: Configuration, wish: Wish) -> str | None:
    then = next_change(now, wish)
    return then.code if isinstance(then, Refusal) else None


def test_a_replacement_is_halfway_while_just_one_of_its_steps_stands() -> None:
    """Whoever else comes or goes. And the names of those who left are kept with their ids."""
    now = made({"a": "voter", "b": "voter", "c": "voter", "d": "observer"})
    replacement = Replace(MemberId("c"), MemberId("d"))
    halfway = step(now, replacement)
    assert halfway.replacements == (Replacing(MemberId("c"), MemberId("d")),)
    for meanwhile in (Add(seat_of("e")), Amend(MemberId("d"), priority=1), Remove(MemberId("b"))):
        assert step(step(halfway, meanwhile), replacement).seat(MemberId("c")) is None
    done = step(halfway, replacement)
    assert (done.replacements, done.left) == ((), (Left(MemberId("c"), "name-c", "voter"),))
    assert next_change(done, replacement) is None
    given_up = step(halfway, Demote(MemberId("d")))
    assert given_up.replacements == ()
    assert code_of(step(given_up, Promote(MemberId("d"))), replacement) == "not_observer"
    assert step(halfway, Remove(MemberId("d"))).replacements == ()


def test_where_the_old_one_leaves_first_its_place_is_kept_for_the_new_one_alone() -> None:
    names = [MemberId(f"m{number}") for number in range(9)]
    start = made({**dict.fromkeys(names[:7], "voter"), names[7]: "observer", names[8]: "observer"})
    replacement, other = Replace(names[0], names[7]), Replace(names[0], names[8])
    halfway = step(start, replacement)
    assert (len(halfway.voters()), halfway.replacements) == (6, (Replacing(names[0], names[7]),))
    assert code_of(halfway, other) == "was_removed"
    done = step(halfway, replacement)
    assert (len(done.voters()), done.replacements) == (7, ())
    assert next_change(done, replacement) is None
    by_hand = step(halfway, Promote(names[7]))
    assert by_hand.replacements == ()
    assert next_change(by_hand, replacement) is None
    assert code_of(step(by_hand, Demote(names[7])), replacement) == "was_removed"
    assert code_of(step(halfway, Remove(names[7])), other) == "was_removed"


def test_a_place_is_for_one_newcomer_and_a_newcomer_for_one_place() -> None:
    """Told in whatever order: as many vote in the end as before."""
    names = [MemberId(f"m{number}") for number in range(9)]
    for voters in (3, 5, 7):
        start = made({**dict.fromkeys(names[:voters], "voter"), names[7]: "observer", names[8]: "observer"})
        wish = Replace(names[0], names[7])
        halfway = step(start, wish)
        gone_first = voters == 7
        assert code_of(halfway, Replace(names[0], names[8])) == ("was_removed" if gone_first else "change_pending")
        assert code_of(halfway, Replace(names[1], names[7])) == ("change_pending" if gone_first else "not_observer")
        assert next_change(halfway, Replace(names[1], names[8])) is not None, "of another pair it says nothing"
        assert len(step(halfway, wish).voters()) == voters


def test_a_replacement_made_impossible_by_a_going_holds_no_place() -> None:
    """Found by the simulation, seed 4072153720005: m7 could be replaced by nobody any more."""
    now = made({"w": "witness", "a": "voter", "b": "voter", "c": "observer", "d": "observer"})
    first, second = Replace(MemberId("a"), MemberId("c")), Replace(MemberId("a"), MemberId("d"))
    halfway = step(now, first)
    assert code_of(halfway, second) == "change_pending"
    alone = step(halfway, Remove(MemberId("b")))
    assert code_of(alone, first) == "too_many_witnesses", "w and c would be left"
    for last in (first, second):
        done = step(step(alone, second), last)
        assert (set(done.voters()), done.replacements) == ({"w", "c", "d"}, ())


def test_a_place_that_another_has_taken_is_kept_for_nobody() -> None:
    """At seven voters, where the old one goes first."""
    names = [MemberId(f"m{number}") for number in range(9)]
    start = made({**dict.fromkeys(names[:7], "voter"), names[7]: "observer", names[8]: "observer"})
    first, second = Replace(names[0], names[7]), Replace(names[1], names[7])
    halfway = step(start, first)
    assert code_of(halfway, second) == "change_pending"
    filled = step(halfway, Promote(names[8]))
    assert code_of(filled, first) == "too_many_voters"
    done = step(step(filled, second), second)
    assert (set(done.voters()), done.replacements) == ({*names[2:7], names[7], names[8]}, ())


def test_who_was_removed_for_itself_leaves_no_place() -> None:
    """It would only be one voter more."""
    now = made({"a": "voter", "b": "voter", "c": "voter", "d": "observer", "e": "observer"})
    removed = step(now, Remove(MemberId("c")))
    refused = next_change(removed, Replace(MemberId("c"), MemberId("d")))
    assert isinstance(refused, Refusal)
    assert (refused.code, "name-c" in refused.text) == ("was_removed", True)
    assert next_change(removed, Replace(MemberId("c"), MemberId("a"))) is None, "a votes, c is gone: so it is"


def test_replacements_at_once_and_beside_a_promotion_all_come_true() -> None:
    """In whatever order their steps are taken: as many vote in the end as before, and who was to leave has left."""
    roles: dict[str, str | None] = {**dict.fromkeys("abc", "voter"), **dict.fromkeys("defg", "observer")}
    wishes = [Replace(MemberId(old), MemberId(new)) for old, new in ("ad", "be", "cf")]
    orders = set(permutations([0, 0, 1, 1, 2, 2, 3]))
    assert len(orders) == 630
    for order in orders:
        now = made(roles)
        for number in order:
            now = step(now, wishes[number] if number < 3 else Promote(MemberId("g")))
        assert set(now.voters()) == set("defg"), order
        assert now.replacements == ()
        assert [next_change(now, wish) for wish in wishes] == [None] * 3


def test_names_and_addresses_are_used_once_and_an_amendment_keeps_the_role() -> None:
    now = made({"a": "voter", "b": "voter", "c": "witness", "d": "observer"})
    for seat, code in (
        (Seat(MemberId("e"), "name-a", "host-e:1"), "name_in_use"),
        (Seat(MemberId("e"), "name-e", "host-b:1"), "address_in_use"),
        (Seat(MemberId("a"), "name-e", "host-e:1"), "id_in_use"),
    ):
        refused = next_change(now, Add(seat))
        assert isinstance(refused, Refusal)
        assert refused.code == code
    moved = next_change(now, Amend(MemberId("c"), "host-x:1", 5))
    assert isinstance(moved, Configuration)
    seat_c = moved.seat(MemberId("c"))
    assert seat_c == Seat(MemberId("c"), "name-c", "host-x:1", "witness", 5)
    assert next_change(moved, Amend(MemberId("c"), "host-x:1")) is None
    taken = next_change(now, Amend(MemberId("c"), "host-a:1"))
    assert isinstance(taken, Refusal)
    assert taken.code == "address_in_use"


def test_members_and_remembered_ids_are_bounded() -> None:
    seats = tuple(seat_of(f"o{number}") for number in range(members_max - 1))
    full = Configuration(LogIndex(1), (seat_of("a", "voter"), *seats))
    more = next_change(full, Add(seat_of("z")))
    assert isinstance(more, Refusal)
    assert more.code == "too_many_members"
    left = tuple(MemberId(f"r{number}") for number in range(removed_kept_max))
    then = next_change(msgspec.structs.replace(full, removed=left), Remove(MemberId("o1")))
    assert isinstance(then, Configuration)
    assert then.removed == (*left[1:], "o1"), "the oldest is forgotten"
