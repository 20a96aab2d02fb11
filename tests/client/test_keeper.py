"""Stories of the keeper without I/O (P3.1, P3.2, P3.6, P3.7, P9.1)."""

from itertools import pairwise

import pytest

from tenure.base.ids import Term
from tenure.base.instants import MS, NEVER, Instant
from tenure.client.events import (
    Campaigning,
    Closed,
    Connected,
    Demanded,
    Disconnected,
    Ended,
    Granted,
    Rejected,
    Renewed,
    SessionLost,
    SessionOpened,
    Unconfirmed,
    Waiting,
)
from tests.client.stage import ORDERS, Stage

VALIDITY_MS = 1_000 * 990 / 1_010 - 20


def kinds(stage: Stage) -> list[type]:
    return [type(event) for event in stage.told()]


def test_it_opens_a_client_session_then_a_session_then_campaigns_then_keeps() -> None:
    stage = Stage()
    stage.core.campaign(ORDERS, 3)
    stage.connect()
    assert stage.kinds() == ["open_client", "read_status"]
    stage.say(type="client_opened", id=stage.find("open_client")["id"], client="3-00000000000000cc")
    opening = stage.find("open")
    assert opening["origin"] == {"type": "seq", "client": "3-00000000000000cc", "sequence": 1, "answered_below": 1}
    stage.say(type="session_opened", id=opening["id"], session="5-00000000000000aa", node="a", ttl_ms=1_000)
    assert stage.kinds() == ["campaign", "keep"]
    assert stage.find("campaign")["priority"] == 3
    assert stage.find("campaign")["origin"]["sequence"] == 2
    assert kinds(stage) == [Connected, SessionOpened]


def test_the_answers_to_open_and_campaign_and_a_pushed_grant_give_no_lease() -> None:
    stage = Stage().open().campaign()
    stage.say(type="granted", session=stage.session, election="orders", term=7, fence_token="t1.x")
    assert Granted not in kinds(stage)
    assert stage.remaining_ms() == 0
    assert stage.kinds() == ["keep"], "the hint is answered with a keepalive at once"


def test_only_an_acknowledgement_that_names_the_lease_grants_it() -> None:
    stage = Stage().open().campaign().keep()
    assert kinds(stage) == [Connected, SessionOpened, Campaigning]
    stage.turn(after_ms=200).keep(("orders", 7))
    granted = stage.told()[-1]
    assert isinstance(granted, Granted)
    assert granted.term == 7
    assert granted.valid_until == int(stage.ms * MS + VALIDITY_MS * 1_000)


def test_validity_counts_from_the_sending_of_the_number_that_was_acknowledged() -> None:
    stage = Stage().lead()
    stage.turn(after_ms=200)
    first = stage.find("keep")["number"]
    stage.turn(after_ms=200)
    assert stage.find("keep")["number"] == first + 1, "a resend has a fresh number"
    stage.keep(("orders", 7), number=first)
    assert stage.remaining_ms() == int((VALIDITY_MS - 200) * 1_000) / 1_000


def test_a_replayed_acknowledgement_gives_nothing() -> None:
    stage = Stage().lead()
    stage.turn(after_ms=200)
    number = stage.find("keep")["number"]
    stage.keep(("orders", 7), number=number)
    stage.told()
    before = stage.remaining_ms()
    stage.turn(after_ms=100).keep(("orders", 7), number=number).keep(("orders", 7), number=number + 50)
    assert stage.told() == []
    assert stage.remaining_ms() == before - 100


def test_an_acknowledgement_of_another_session_gives_nothing() -> None:
    stage = Stage().open().campaign()
    number = stage.find("keep")["number"]
    lease = {"election": "orders", "term": 7, "fence_token": "t", "ttl_ms": 1_000}
    stage.say(type="kept", session="4-00000000000000bb", number=number, leases=[lease], demands=[])
    assert stage.remaining_ms() == 0


def test_it_renews_every_fifth_of_the_ttl() -> None:
    stage = Stage().lead()
    assert stage.output is not None
    assert stage.output.deadline <= stage.now + 200 * MS
    assert stage.turn(after_ms=199).sent == []
    assert stage.turn(after_ms=1).kinds() == ["keep"]


def test_without_a_renewal_the_lease_ends_at_its_time_and_is_given_back_then() -> None:
    stage = Stage().lead()
    stage.core.disconnected("gone")
    stage.turn().told()
    stage.turn(after_ms=int(VALIDITY_MS))
    assert stage.told() == []
    assert stage.remaining_ms() > 0
    stage.turn(after_ms=1)
    ended = stage.told()
    assert [type(event) for event in ended] == [Ended]
    assert isinstance(ended[0], Ended)
    assert ended[0].cause == "expired"
    assert stage.remaining_ms() == 0
    stage.connect()
    assert stage.find("release")["term"] == 7
    assert stage.find("release")["withdraw"] is True
    stage.keep(("orders", 7))
    assert stage.remaining_ms() == 0, "over for ever, whatever comes back"


def test_a_broken_stream_costs_nothing_and_the_next_one_attaches_first() -> None:
    stage = Stage().lead()
    stage.core.disconnected("reset")
    stage.turn(after_ms=5)
    assert stage.sent == []
    stage.connect("http://m2")
    assert stage.kinds() == ["attach", "read_status", "keep"]
    stage.keep(("orders", 7))
    assert kinds(stage)[-3:] == [Disconnected, Connected, Renewed]


def test_an_unanswered_request_is_sent_again_under_the_same_sequence() -> None:
    stage = Stage().open()
    stage.core.campaign(ORDERS, 0)
    stage.turn()
    first = stage.find("campaign")
    stage.core.disconnected("reset")
    stage.connect("http://m2")
    again = stage.find("campaign")
    assert again["origin"] == first["origin"]


@pytest.mark.parametrize("code", ["no_quorum", "no_part"])
def test_a_refusal_without_a_quorum_keeps_the_number_and_others_draw_a_new_one(code: str) -> None:
    stage = Stage().open()
    stage.core.campaign(ORDERS, 0)
    stage.turn()
    first = stage.find("campaign")
    stage.say(type="refused", id=first["id"], code=code, reason="away", retry_after_ms=50)
    assert stage.output is not None
    assert stage.output.fault is None, "its status may tell of others, and is yet to come"
    assert stage.sent == []
    stage.turn(after_ms=50)
    assert stage.find("campaign")["origin"]["sequence"] == first["origin"]["sequence"]
    stage.say(type="refused", id=stage.find("campaign")["id"], code="too_many", reason="full", retry_after_ms=50)
    stage.turn(after_ms=50)
    assert stage.find("campaign")["origin"]["sequence"] > first["origin"]["sequence"]


def test_a_forgotten_client_session_is_opened_anew_and_what_was_asked_is_asked_under_it() -> None:
    stage = Stage().open()
    stage.core.campaign(ORDERS, 0)
    stage.turn()
    stage.say(type="refused", id=stage.find("campaign")["id"], code="outcome_unknown", reason="closed")
    stage.say(type="client_opened", id=stage.find("open_client")["id"], client="9-00000000000000dd")
    stage.turn(after_ms=100)
    assert stage.find("campaign")["origin"] == {
        "type": "seq",
        "client": "9-00000000000000dd",
        "sequence": 1,
        "answered_below": 1,
    }


def test_for_one_election_only_one_change_is_under_way() -> None:
    stage = Stage().lead()
    stage.core.release(ORDERS, Term(7))
    stage.core.campaign(ORDERS, 0)
    stage.turn()
    assert stage.kinds() == ["release"]
    stage.say(type="released", id=stage.find("release")["id"], election="orders", term=7)
    assert stage.kinds() == ["campaign"]


def test_release_ends_validity_before_anything_is_sent() -> None:
    stage = Stage().lead()
    stage.told()
    stage.core.release(ORDERS, Term(7))
    assert stage.remaining_ms() == 0, "nothing was sent yet: the next turn does"
    stage.turn()
    assert stage.find("release")["term"] == 7
    stage.turn(after_ms=200).keep(("orders", 7))
    assert stage.remaining_ms() == 0
    assert kinds(stage) == [Ended]


def test_release_of_another_term_changes_nothing() -> None:
    stage = Stage().lead()
    stage.core.release(ORDERS, Term(6))
    stage.turn()
    assert stage.sent == []
    assert stage.remaining_ms() > 0


def test_withdrawing_what_is_held_ends_it_first() -> None:
    stage = Stage().lead()
    stage.core.withdraw(ORDERS)
    assert stage.remaining_ms() == 0
    assert stage.turn().kinds() == ["withdraw"]


def test_a_withdrawal_under_way_ends_even_a_grant_that_was_not_heard_of_yet() -> None:
    """P3.7: a withdrawal names no term, so what is acknowledged before its answer may be what it gives back."""
    stage = Stage().open().campaign()
    stage.core.withdraw(ORDERS)
    stage.turn()
    asked = stage.find("withdraw")["id"]
    stage.core.campaign(ORDERS, 0)
    stage.turn(after_ms=200).keep(("orders", 7))
    assert stage.remaining_ms() == 0
    assert Granted not in kinds(stage)
    stage.say(type="withdrawn", id=asked, election="orders", session=stage.session)
    stage.say(type="campaigning", id=stage.find("campaign")["id"], election="orders", session=stage.session, priority=0)
    stage.turn(after_ms=200).keep(("orders", 8))
    assert stage.remaining_ms(8) > 0


def test_a_grant_that_nobody_waits_for_is_given_back() -> None:
    stage = Stage().lead()
    stage.core.release(ORDERS, Term(7))
    stage.turn()
    stage.say(type="released", id=stage.find("release")["id"], election="orders", term=7)
    stage.turn(after_ms=200).keep(("orders", 9))
    assert stage.find("release")["term"] == 9
    assert stage.remaining_ms(9) == 0


def test_who_stands_again_gives_back_what_was_over_before() -> None:
    """Granted anew while the release of the term before was under way, it was over for ever here, and then nobody gave
    it back: the session held an office that nobody worked in, for as long as it lived (seed 1265).
    """
    stage = Stage().lead()
    stage.turn(after_ms=200).keep()
    stage.core.release(ORDERS, Term(7))
    stage.turn()
    released = stage.find("release")["id"]
    stage.turn(after_ms=200).keep(("orders", 9))
    assert stage.kinds() == [], "one thing at a time"
    stage.say(type="released", id=released, election="orders", term=7)
    stage.campaign().turn(after_ms=200).keep(("orders", 9))
    assert stage.remaining_ms(9) == 0
    back = stage.find("release")
    assert (back["term"], back.get("withdraw", False)) == (9, False), "it stands for it still"
    stage.say(type="released", id=back["id"], election="orders", term=9)
    stage.turn(after_ms=200).keep(("orders", 10))
    assert stage.remaining_ms(10) > 0


def test_an_acknowledgement_sent_for_before_the_grant_does_not_revoke_it() -> None:
    stage = Stage().open().campaign()
    early = stage.find("keep")["number"]
    stage.turn(after_ms=200)
    stage.keep(("orders", 7)).keep(number=early)
    assert stage.remaining_ms() > 0
    assert Ended not in kinds(stage)


def test_a_later_acknowledgement_without_the_lease_revokes_it() -> None:
    stage = Stage().lead()
    stage.told()
    stage.turn(after_ms=200).keep()
    (ended,) = stage.told()
    assert isinstance(ended, Ended)
    assert ended.cause == "revoked"
    assert stage.remaining_ms() == 0
    assert stage.sent == [], "what runs under it may still have to stop: it is given back when the owner says so"
    stage.core.release(ORDERS, Term(7))
    assert stage.turn().kinds() == ["release"]


def test_a_revoked_lease_is_given_back_at_its_end_if_the_owner_says_nothing() -> None:
    stage = Stage().lead()
    stage.turn(after_ms=200).keep()
    sent = [kind for _ in range(5) for kind in stage.turn(after_ms=200).kinds()]
    assert sent.count("release") == 1


def test_a_demand_is_told_once_with_its_grace() -> None:
    stage = Stage().lead()
    stage.told()
    demand = {"election": "orders", "term": 7, "successor": "b", "grace_ms": 400}
    until = stage.now + 400 * MS
    stage.say(type="stepdown", session=stage.session, **demand)
    assert stage.kinds() == [], "it is believed at once: a keepalive would only be in its way"
    stage.turn(after_ms=200).keep(("orders", 7), demands=[demand])
    demanded = [event for event in stage.told() if isinstance(event, Demanded)]
    assert [(event.successor, event.grace_ms, event.until) for event in demanded] == [("b", 400, until)]
    assert stage.remaining_ms() > 0, "what was begun may be finished"


def test_a_demand_for_another_term_is_passed_over() -> None:
    stage = Stage().lead()
    stage.told()
    stage.say(type="stepdown", session=stage.session, election="orders", term=6, successor=None, grace_ms=400)
    assert stage.told() == []


def test_a_lost_session_ends_its_leases_and_is_opened_anew_under_another_nonce() -> None:
    stage = Stage()
    stage.connect()
    stage.say(type="client_opened", id=stage.find("open_client")["id"], client="3-00000000000000cc")
    first = stage.find("open")["process"]
    stage.open().campaign().keep(("orders", 7))
    stage.told()
    stage.turn(after_ms=200)
    stage.say(
        type="refused", session=stage.session, number=stage.find("keep")["number"], code="unknown_session", reason="ran"
    )
    ended, lost = stage.told()
    assert isinstance(ended, Ended)
    assert ended.cause == "session_lost"
    assert isinstance(lost, SessionLost)
    assert stage.find("open")["process"] != first
    assert stage.core.session() is None
    stage.open("9-00000000000000bb")
    assert "campaign" not in stage.kinds(), "who led must say that everything has stopped, by campaigning again"
    stage.core.campaign(ORDERS, 0)
    assert stage.turn().kinds() == ["campaign"]


def test_a_candidate_whose_session_is_lost_stands_again_by_itself() -> None:
    stage = Stage().open().campaign()
    stage.say(type="refused", session=stage.session, number=1, code="unknown_session", reason="ran out")
    stage.open("9-00000000000000bb")
    assert stage.find("campaign")["session"] == "9-00000000000000bb"


def test_numbers_begin_anew_only_with_a_new_session() -> None:
    stage = Stage().lead()
    stage.core.disconnected("reset")
    stage.turn()
    stage.connect("http://m2")
    assert stage.find("keep")["number"] > 1


def test_a_forward_step_of_the_wall_clock_makes_leases_unconfirmed_until_a_later_keepalive() -> None:
    stage = Stage().lead()
    stage.turn(after_ms=200)
    before = stage.find("keep")["number"]
    stage.told()
    stage.real_ahead_ms = 3_600_000
    stage.turn(after_ms=10)
    assert kinds(stage) == [Unconfirmed]
    assert stage.remaining_ms() == 0
    assert stage.core.valid_until(ORDERS) is None
    after = stage.find("keep")["number"]
    stage.keep(("orders", 7), number=before)
    assert stage.remaining_ms() == 0, "sent before the step"
    stage.keep(("orders", 7), number=after)
    assert kinds(stage) == [Renewed]
    assert stage.remaining_ms() > 0


def test_a_machine_that_stood_still_for_a_moment_tells_that_validity_ends_earlier() -> None:
    """ADR 0036: `tenure run` and its page believe what they were told, and so they must be told."""
    stage = Stage().lead()
    granted = [event for event in stage.told() if isinstance(event, Granted)]
    stage.real_ahead_ms = 35
    stage.turn(after_ms=10)
    earlier = Instant(granted[-1].valid_until - 35 * MS)
    assert [(event.term, event.valid_until) for event in stage.told() if isinstance(event, Renewed)] == [(7, earlier)]
    assert stage.core.valid_until(ORDERS) == earlier
    assert stage.output is not None
    assert stage.output.deadline <= earlier
    stage.ms = -(-earlier // MS)
    stage.turn()
    assert kinds(stage) == [Ended]


def test_what_ended_early_is_given_back_when_nobody_acts_under_it() -> None:
    """P3.7: with one turn the keeper says that it is over; who hasn't heard of that acts until the end that it knew."""
    stage = Stage().lead()
    told = stage.core.valid_until(ORDERS)
    assert told is not None
    for _ in range(3):
        stage.turn(after_ms=250)  # unanswered: 210 ms are left of 960
    stage.real_ahead_ms = 240
    stage.turn(after_ms=10)
    assert Ended in kinds(stage)
    released = []
    while stage.now < told + 50 * MS:
        if "release" in stage.kinds():
            released.append(stage.now)
        stage.turn(after_ms=10)
    assert released
    assert min(released) >= told


def test_waiting_is_told_once_however_differently_endpoints_say_it() -> None:
    stage = Stage().open()
    stage.core.campaign(ORDERS, 0)
    stage.turn()
    seen = []
    for code in ("no_quorum", "no_part", "no_quorum"):
        stage.say(type="refused", id=stage.find("campaign")["id"], code=code, reason="away", retry_after_ms=50)
        seen += kinds(stage)
        stage.turn(after_ms=50)
    assert seen.count(Waiting) == 1


def test_a_backward_step_of_the_wall_clock_changes_nothing() -> None:
    stage = Stage().lead()
    stage.told()
    stage.real_ahead_ms = -3_600_000
    stage.turn(after_ms=10)
    assert stage.told() == []
    assert stage.remaining_ms() > 0


@pytest.mark.parametrize("code", ["no_quorum", "no_part"])
def test_only_an_answer_that_needs_a_quorum_says_that_an_endpoint_serves(code: str) -> None:
    """A member that was removed tells its status, too."""
    stage = Stage().connect()
    stage.say(type="status", id=stage.find("read_status")["id"], members={})
    assert stage.output is not None
    assert not stage.output.served
    stage.say(type="refused", id=1, code=code, reason="this member takes no part any more")
    assert not stage.output.served
    served = Stage().lead().output
    assert served is not None
    assert served.served


def test_a_keepalive_that_a_later_one_overtook_is_no_rejection() -> None:
    """It was passed on, late or again; `tenure run` ends and `lead()` raises at a rejection."""
    stage = Stage().lead()
    stage.turn(after_ms=200)
    overtaken = stage.find("keep")["number"]
    stage.turn(after_ms=200)
    stage.told()
    stage.say(
        type="refused", session=stage.session, number=overtaken, code="invalid", reason="not fresh", field="number"
    )
    assert stage.told() == []
    stage.say(
        type="refused", session=stage.session, number=overtaken + 1, code="invalid", reason="no %", field="health"
    )
    assert stage.told() == [Rejected("invalid", "no %")]


def test_a_name_in_use_is_told_and_tried_again_under_a_new_number() -> None:
    stage = Stage().connect()
    stage.say(type="client_opened", id=stage.find("open_client")["id"], client="3-00000000000000cc")
    first = stage.find("open")
    stage.say(type="refused", id=first["id"], code="node_in_use", reason="node 'a' has a session", retry_after_ms=300)
    waiting = stage.told()[-1]
    assert isinstance(waiting, Waiting)
    assert (waiting.code, waiting.retry_after_ms) == ("node_in_use", 300)
    assert stage.turn(after_ms=299).sent == []
    stage.turn(after_ms=1)
    assert stage.find("open")["origin"]["sequence"] > first["origin"]["sequence"]


def test_a_wrong_credential_is_told_and_tried_again_slowly() -> None:
    stage = Stage().connect()
    stage.say(type="refused", id=stage.find("open_client")["id"], code="denied", reason="wrong secret")
    rejected = stage.told()[-1]
    assert isinstance(rejected, Rejected)
    assert rejected.code == "denied"
    assert stage.turn(after_ms=4_999).sent == []
    assert stage.turn(after_ms=1).kinds() == ["open_client"]


def test_a_silent_endpoint_is_left_and_patience_grows() -> None:
    stage = Stage().lead()
    stage.turn(after_ms=200)
    moved: list[int] = []
    for _ in range(1_000):
        stage.turn(after_ms=5)
        assert stage.output is not None
        if stage.output.move:
            moved.append(stage.ms)
    assert moved[0] - 2_000 < 0
    gaps = [later - earlier for earlier, later in pairwise(moved)]
    assert gaps == sorted(gaps)
    assert gaps[-1] >= 4 * gaps[0]


def test_nonsense_from_the_server_is_a_fault_of_the_stream() -> None:
    stage = Stage().connect()
    stage.core.received(b'{"type": "kept", "session": 5}', stage.now)
    stage.turn()
    assert stage.output is not None
    assert stage.output.fault is not None


def test_unknown_messages_and_answers_to_forgotten_requests_are_passed_over() -> None:
    stage = Stage().lead()
    stage.told()
    stage.say(type="weather", session=stage.session).say(type="noted", id=999)
    assert stage.told() == []
    assert stage.output is not None
    assert stage.output.fault is None


def test_closing_ends_validity_then_closes_the_session_and_finishes() -> None:
    stage = Stage().lead()
    stage.told()
    stage.core.close()
    assert stage.remaining_ms() == 0
    assert stage.turn().kinds() == ["close"]
    stage.say(type="session_closed", id=stage.find("close")["id"], session="5-00000000000000aa")
    assert stage.output is not None
    assert stage.output.finished
    assert kinds(stage) == [Ended, Closed]


def test_a_release_goes_before_the_closing_so_that_the_history_says_released() -> None:
    stage = Stage().lead()
    stage.core.release(ORDERS, Term(7))
    stage.core.close()
    assert stage.turn().kinds() == ["release", "close"]


def test_closing_while_an_opening_is_under_way_closes_what_it_opens() -> None:
    stage = Stage().connect()
    stage.say(type="client_opened", id=stage.find("open_client")["id"], client="3-00000000000000cc")
    opening = stage.find("open")
    stage.core.close()
    stage.turn()
    stage.say(type="session_opened", id=opening["id"], session="5-00000000000000aa", node="a", ttl_ms=1_000)
    assert stage.find("close")["session"] == "5-00000000000000aa"


def test_closing_before_anything_was_sent_finishes_at_once() -> None:
    stage = Stage()
    stage.core.close()
    stage.turn()
    assert stage.output is not None
    assert stage.output.finished
    assert stage.output.deadline == NEVER


def test_endpoints_are_learnt_from_the_status() -> None:
    stage = Stage().connect()
    stage.say(type="status", id=stage.find("read_status")["id"], members={"m2": {"api": "127.0.0.1:8002"}, "m3": {}})
    assert stage.output is not None
    assert stage.output.learnt == ("127.0.0.1:8002",)


def test_an_endpoint_that_serves_nobody_is_left_and_all_is_asked_again_elsewhere() -> None:
    for code in ("no_state", "joining"):
        stage = Stage().open()
        stage.core.campaign(ORDERS, 0)
        stage.turn()
        campaign = stage.find("campaign")
        stage.say(type="refused", id=campaign["id"], code=code, reason="ask another")
        assert stage.output is not None
        assert stage.output.fault == "ask another"
        assert Rejected not in kinds(stage)
        stage.connect("http://other")
        again = stage.find("campaign")
        assert again["origin"]["sequence"] == campaign["origin"]["sequence"], "it was not executed, and will be once"


def test_observers_are_learnt_behind_all_others_and_witnesses_not_at_all() -> None:
    stage = Stage()
    stage.connect()
    members = {
        "far": {"api": "far:1", "role": "observer"},
        "m1": {"api": "m1:1", "role": "leader"},
        "w": {"api": "w:1", "role": "witness"},
        "x": {"api": "x:1", "role": "voter"},
        "y": {"api": None, "role": "voter"},
    }
    stage.say(type="status", id=stage.find("read_status")["id"], members=members)
    assert stage.output is not None
    assert stage.output.learnt == ("m1:1", "x:1", "far:1")
