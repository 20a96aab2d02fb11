"""`tenure member`: what it asks, what it prints, and which exit code each refusal has."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from tenure.base.ids import MemberId, Nonce
from tenure.leadership.engine import (
    AddMember,
    AmendMember,
    AnyRequest,
    AnyResult,
    DemoteMember,
    FormerMember,
    ListMembers,
    MemberSeat,
    MembersView,
    PromoteMember,
    Refused,
    RemoveMember,
    ReplaceMember,
    Status,
)
from tests.api.scripted import Scripted, report, serving
from tests.cli.conftest import Said, Tenure

ID = MemberId("0123456789abcdef")
SEATS = (
    MemberSeat(MemberId("00000000000000a1"), "m1", "h:1", "voter", 5),
    MemberSeat(MemberId("00000000000000a3"), "w1", "h:3", "witness"),
    MemberSeat(ID, "m4", "h:4", "observer"),
)
VIEW = MembersView("c" * 16, (Nonce("c" * 16),), 57, SEATS)


@pytest.fixture
def engine() -> Scripted:
    return Scripted(script=lambda asked: report() if isinstance(asked, Status) else VIEW)


@pytest.fixture
def member(tenure: Tenure, engine: Scripted) -> Iterator[Tenure]:
    with serving(engine) as server:
        yield lambda *words: tenure("member", *words, "--endpoints", f"http://127.0.0.1:{server.port}")


def asked(engine: Scripted) -> list[AnyRequest]:
    return [one for one, _ in engine.asked if not isinstance(one, Status)]


def test_the_list_shows_roles_and_how_far_each_is(member: Tenure) -> None:
    said = member("list")
    assert said.code == 0
    head, _, *rows = said.out.splitlines()
    assert head == f"cluster {'c' * 16}, members as of index 57: 2 vote, 2 decide"
    cells = [row.split() for row in rows]
    assert cells[0] == ["MEMBER", "ROLE", "STATE", "LAG", "RTT", "PRIORITY", "PEER", "ID"]
    assert cells[1] == ["m1", "leader", "ok", "3", "0.20", "ms", "5", "h:1", "00000000000000a1"]
    assert cells[2][:4] == ["m4", "observer", "-", "-"]
    assert cells[3][:2] == ["w1", "witness"]
    assert member("list", "--json").json["index"] == 57


@pytest.mark.parametrize(
    ("words", "request_"),
    [
        (("add", "m4", "--id", ID, "--peer", "h:4", "--priority", "-2"), AddMember(ID, "m4", "h:4", -2)),
        (
            ("add", "m4", "--id", ID, "--peer", "h:4", "--standby", "voter"),
            AddMember(ID, "m4", "h:4", 0, standby="voter"),
        ),
        (("promote", "m4"), PromoteMember("m4")),
        (("promote", "m4", "--witness", "--if-index", "57"), PromoteMember("m4", "witness", 57)),
        (("demote", "m1"), DemoteMember("m1")),
        (("remove", "m1", "--if-index", "0"), RemoveMember("m1", 0)),
        (("replace", "m1", "--by", "m4"), ReplaceMember("m1", "m4")),
        (("replace", "w1", "--by", "m4"), ReplaceMember("w1", "m4", "witness")),
        (("replace", "w1", "--by", "m4", "--as", "voter"), ReplaceMember("w1", "m4")),
        (
            ("replace", "w1@00000000000000a3", "--by", "m4"),
            ReplaceMember("w1@00000000000000a3", "m4", "witness"),
        ),
        (("amend", "m1", "--peer", "h:9", "--priority", "0"), AmendMember("m1", "h:9", 0)),
        (("amend", "m1", "--standby", "witness"), AmendMember("m1", None, None, standby="witness")),
    ],
)
def test_each_command_asks_for_just_what_it_says(
    member: Tenure, engine: Scripted, words: tuple[str, ...], request_: AnyRequest
) -> None:
    said = member(*words)
    assert said.code == 0, said.err
    assert asked(engine)[-1] == request_
    assert "members as of index 57" in said.out


def test_a_dry_run_prints_the_steps_and_nothing_else(member: Tenure, engine: Scripted) -> None:
    plan = ("m4: observer → voter; voters 2 → 3", "remove m1 (00000000000000a1); voters 3 → 2")
    engine.script = lambda request: MembersView("c", (), 57, SEATS, plan=plan)
    said = member("replace", "m1", "--by", "m4", "--dry-run")
    assert said.out == "1. m4: observer → voter; voters 2 → 3\n2. remove m1 (00000000000000a1); voters 3 → 2\n"
    assert asked(engine)[-1] == ReplaceMember("m1", "m4", dry_run=True)
    assert member("replace", "m1", "--by", "m4", "--dry-run", "--json").json["plan"] == list(plan)
    engine.script = lambda request: MembersView("c", (), 57, SEATS)
    assert member("remove", "m9", "--dry-run").out == "nothing to do: it is so already\n"


@pytest.mark.parametrize(
    ("code", "exit_", "step"),
    [
        ("loses_quorum", 8, "Bring the members back"),
        ("not_caught_up", 8, "--wait"),
        ("change_pending", 8, "tenure member list"),
        ("last_voter", 8, "Add and promote another"),
        ("too_many_voters", 8, "Demote or remove"),
        ("too_many_members", 8, "Remove members"),
        ("too_many_witnesses", 8, "as a voter"),
        ("witness_stays", 8, "empty data directory"),
        ("not_observer", 1, "To take a voter out"),
        ("name_in_use", 1, "another name"),
        ("address_in_use", 1, "address of its own"),
        ("id_in_use", 1, "tenure member amend"),
        ("was_removed", 1, "tenure serve --join"),
        ("stale_configuration", 1, "tenure member list"),
        ("unknown_member", 1, "tenure status"),
        ("no_eligible_successor", 3, "tenure status"),
        ("invalid", 2, "Mend the field"),
        ("unsupported", 1, "tenure serve"),
        ("denied", 9, "secret"),
    ],
)
def test_each_refusal_has_its_exit_code_and_its_next_step(
    member: Tenure, engine: Scripted, code: Any, exit_: int, step: str
) -> None:
    engine.script = lambda request: Refused(code, "because it is so")
    said = member("remove", "m1")
    assert (said.code, said.out) == (exit_, "")
    assert said.err.startswith("tenure: because it is so. ")
    assert step in said.err
    wrong = member("remove", "m1", "--json").error
    assert (wrong["code"], wrong["exit"]) == (code, exit_)


def test_promote_waits_until_it_has_caught_up_if_it_is_told_to(member: Tenure, engine: Scripted) -> None:
    lags = [3_000, 2_000]

    def catches_up(request: AnyRequest) -> AnyResult:
        if isinstance(request, PromoteMember) and lags:
            return Refused("not_caught_up", f"m4 lags by {lags.pop(0)} entries", retry_after_ms=500)
        return report() if isinstance(request, Status) else VIEW

    engine.script = catches_up
    said = member("promote", "m4", "--wait", "20s")
    assert said.code == 0
    assert said.err == "tenure member: waiting: m4 lags by 3000 entries\n"
    engine.script = lambda request: Refused("not_caught_up", "m4 is not connected", retry_after_ms=500)
    assert member("promote", "m4").code == 8
    late = member("replace", "m1", "--by", "m4", "--as", "voter", "--wait", "300ms")
    assert late.code == 6
    assert "waited 0.3 s: m4 is not connected" in late.err
    engine.script = lambda request: Refused("loses_quorum", "nothing could commit")
    assert member("promote", "m4", "--wait", "20s").code == 8, "what doesn't pass by itself is not waited for"


def test_who_waited_for_a_change_that_stays_halfway_hears_how_to_end_it(member: Tenure, engine: Scripted) -> None:
    """More time alone need not help: nobody may tell that one again (P7.2)."""
    halfway = "the place of m1 goes to m5: that is halfway"
    engine.script = lambda request: Refused("change_pending", halfway, retry_after_ms=500)
    late = member("replace", "m1", "--by", "m4", "--as", "voter", "--wait", "300ms")
    assert (late.code, f"waited 0.3 s: {halfway}" in late.err) == (6, True)
    assert "given up by demoting its newcomer" in late.err
    assert "Give it more time" not in late.err


def test_who_waited_for_the_second_step_hears_of_the_first_although_nobody_answers_then(
    member: Tenure, engine: Scripted
) -> None:
    """Whoever has no leader, or is gone, can't know it; but it was said a moment ago."""
    first = "m4 lags by 3000 entries; its first step is done"
    answers = [Refused("not_caught_up", first, retry_after_ms=500)]

    def is_lost(request: AnyRequest) -> AnyResult:
        return answers.pop(0) if answers else Refused("no_quorum", "no consensus leader is known", retry_after_ms=50)

    engine.script = is_lost
    words = ("replace", "m1", "--by", "m4", "--as", "voter", "--wait", "20s", "--timeout", "0.2")
    said = member(*words)
    assert said.code == 5
    assert said.err.splitlines()[-1].startswith(f"tenure: no consensus leader is known; before that: {first}. ")
    answers.append(Refused("not_caught_up", first, retry_after_ms=500))
    told = json.loads(member(*words, "--json").err.splitlines()[-1])
    assert (told["code"], first in told["reason"]) == ("no_quorum", True)
    assert "before that" not in member(*words).err, "nothing was said before"


def test_a_replacement_waits_for_the_new_one_to_join_and_not_for_the_old_one(member: Tenure, engine: Scripted) -> None:
    """Of a name that the cluster doesn't know (any more) it says so at once: nobody comes back under it by waiting."""

    def is_done(request: AnyRequest) -> AnyResult:
        return Refused("unknown_member", "no member has the id m2") if isinstance(request, ReplaceMember) else VIEW

    engine.script = is_done
    for new in ("m4", ID, f"m4@{ID}"):
        said = member("replace", "m2", "--by", new, "--as", "voter", "--wait", "2s")
        assert (said.code, said.err.partition(". ")[0]) == (1, "tenure: no member has the id m2")
        assert "waiting" not in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("remove", "m9"), "m9 was removed already: nothing was to be done"),
        (("replace", "m9", "--by", "m4"), "m9 was removed already, and m4 votes: nothing was to be done"),
        (("promote", "m1"), "it is so already: nothing was to be done"),
    ],
)
def test_what_is_told_again_ends_well_and_says_that_it_was_so(
    member: Tenure, engine: Scripted, words: tuple[str, ...], said: str
) -> None:
    engine.script = lambda asked: report() if isinstance(asked, Status) else replace(VIEW, already=True)
    told = member(*words)
    assert (told.code, told.out.splitlines()[0]) == (0, said)
    assert "members as of index 57" in told.out
    assert member(*words, "--json").json["already"] is True


def test_a_replacement_that_is_told_again_knows_what_the_old_one_was(member: Tenure, engine: Scripted) -> None:
    """By whoever was called so last."""
    before = (FormerMember(MemberId("00000000000000b1"), "w9", "voter"), FormerMember(ID, "w9", "witness"))
    engine.script = lambda asked: report() if isinstance(asked, Status) else replace(VIEW, removed=before)
    assert member("replace", "w9", "--by", "m4").code == 0
    assert asked(engine)[-1] == ReplaceMember("w9", "m4", "witness")
    assert member("replace", "00000000000000b1", "--by", "m4").code == 0
    assert asked(engine)[-1] == ReplaceMember("00000000000000b1", "m4", "voter")


@pytest.mark.parametrize("words", [("promote", "m5"), ("replace", "m1", "--by", "m5", "--as", "voter")])
def test_who_is_not_known_yet_may_be_joining(member: Tenure, engine: Scripted, words: tuple[str, ...]) -> None:
    """Also in just the moment between the refusal and the look who is there."""
    looks = [VIEW, replace(VIEW, members=(*SEATS, MemberSeat(MemberId("00000000000000a5"), "m5", "h:5", "observer")))]
    seen = [VIEW]

    def joins(request: AnyRequest) -> AnyResult:
        match request:
            case Status():
                return report()
            case ListMembers():
                seen.append(looks.pop(0))
            case _ if len(seen[-1].members) == len(SEATS):
                return Refused("unknown_member", "no member has the id m5")
            case _:
                pass
        return seen[-1]

    engine.script = joins
    said = member(*words, "--wait", "60s")
    assert said.code == 0
    assert said.err == "tenure member: waiting: no member has the id m5\n"
    assert looks == []
    engine.script = lambda request: VIEW if isinstance(request, ListMembers) else Refused("unknown_member", "no m5")
    assert member(*words).code == 1
    late = member(*words, "--wait", "300ms")
    assert (late.code, "waited 0.3 s: no m5" in late.err) == (6, True)


def test_an_amendment_says_what_is_to_change(member: Tenure, engine: Scripted) -> None:
    said: Said = member("amend", "m1")
    assert (said.code, asked(engine)) == (2, [])
    assert "--peer, --priority or --standby" in said.err
