"""P3.1, P3.2, P3.7 at the holder: what a node may believe about its own leases."""

from random import Random

import pytest

from tenure.base.ids import ElectionName, SessionId, Term
from tenure.base.instants import MS, SECOND, Instant
from tenure.leadership.engine import Kept, Lease
from tenure.leadership.holder import Holder, outstanding_max, validity_us
from tests.leadership.stage import ORDERS

TTL_US = 1_000 * MS
VALID_US = TTL_US * 990 // 1010 - 20 * MS
START = Instant(50 * SECOND)


def kept(number: int, *terms: int, election: ElectionName = ORDERS) -> Kept:
    leases = tuple(Lease(election, Term(term), f"t1.orders.{term}.{'0' * 32}", 1_000) for term in terms)
    return Kept(SessionId(f"1-{'0' * 16}"), number, leases)


def at(us: int) -> Instant:
    return Instant(START + us)


def led(term: int = 7) -> tuple[Holder, int]:
    """A holder whose first keepalive, sent at START, confirmed the term."""
    holder = Holder(TTL_US)
    number = holder.transmit(START)
    holder.acknowledged(kept(number, term), at(5 * MS))
    return holder, number


def test_validity_counts_from_the_send_with_drift_and_guard_taken_off() -> None:  # P3.7
    holder, _ = led()
    assert holder.valid_until(ORDERS) == at(VALID_US)
    assert holder.check(ORDERS, at(VALID_US - 1)) == "valid"
    assert holder.check(ORDERS, at(VALID_US)) == "ran_out"
    assert holder.remaining_us(ORDERS, at(VALID_US + 5)) == 0


@pytest.mark.parametrize(
    ("ttl_ms", "guard_ms", "valid_us"),
    [(3_000, 60, 2_940_594 - 60_000), (100, 10, 98_019 - 10_000), (5, 10, 0)],
)
def test_the_guard_is_a_fiftieth_of_the_ttl_but_ten_ms_at_least(ttl_ms: int, guard_ms: int, valid_us: int) -> None:
    assert validity_us(ttl_ms * MS, guard_ms * MS, 10) == valid_us
    holder = Holder(ttl_ms * MS)
    holder.acknowledged(kept(holder.transmit(START), 7), START)
    assert holder.valid_until(ORDERS) == at(valid_us)


def test_an_unknown_or_foreign_acknowledgement_gives_nothing() -> None:  # P3.1
    holder = Holder(TTL_US)
    holder.acknowledged(kept(1, 7), START)
    assert holder.check(ORDERS, START) == "not_held"


def test_each_transmission_has_a_fresh_number() -> None:  # P3.2
    holder = Holder(TTL_US)
    assert [holder.transmit(at(step)) for step in range(3)] == [1, 2, 3]


def test_a_late_acknowledgement_counts_from_its_own_send() -> None:  # P3.2
    holder = Holder(TTL_US)
    first = holder.transmit(START)
    holder.transmit(at(400 * MS))
    holder.acknowledged(kept(first, 7), at(450 * MS))
    assert holder.valid_until(ORDERS) == at(VALID_US)


def test_a_repeated_acknowledgement_moves_nothing() -> None:  # P3.2
    holder, number = led()
    holder.acknowledged(kept(number, 7), at(800 * MS))
    assert holder.valid_until(ORDERS) == at(VALID_US)


def test_an_older_acknowledgement_never_shortens_a_newer_one() -> None:
    holder = Holder(TTL_US)
    first, second = holder.transmit(START), holder.transmit(at(200 * MS))
    holder.acknowledged(kept(second, 7), at(300 * MS))
    holder.acknowledged(kept(first), at(310 * MS))
    assert holder.valid_until(ORDERS) == at(200 * MS + VALID_US)


def test_a_later_acknowledgement_without_the_lease_ends_it_at_once() -> None:
    holder, _ = led()
    holder.acknowledged(kept(holder.transmit(at(100 * MS))), at(105 * MS))
    assert holder.check(ORDERS, at(105 * MS)) == "not_held"


def test_a_lease_whose_freeze_fell_with_its_steward_is_confirmed_again() -> None:
    holder, _ = led()
    holder.acknowledged(kept(holder.transmit(at(100 * MS))), at(105 * MS))
    holder.acknowledged(kept(holder.transmit(at(200 * MS)), 7), at(205 * MS))
    assert holder.check(ORDERS, at(205 * MS)) == "valid"


def test_an_ended_term_stays_ended_whatever_comes_back() -> None:  # P3.7
    holder, number = led()
    holder.end(ORDERS, Term(7))
    holder.acknowledged(kept(number, 7), at(10 * MS))
    holder.acknowledged(kept(holder.transmit(at(20 * MS)), 7), at(25 * MS))
    assert holder.check(ORDERS, at(25 * MS)) == "not_held"
    holder.acknowledged(kept(holder.transmit(at(30 * MS)), 8), at(35 * MS))
    assert holder.check(ORDERS, at(35 * MS)) == "valid", "a later term is another holding"


def test_a_withdrawal_also_ends_a_holding_not_heard_of_yet() -> None:
    # A withdrawal names no term. The acknowledgement under way may name what the withdrawal gives back.
    holder = Holder(TTL_US)
    before = holder.transmit(START)
    holder.withdrawing(ORDERS)
    between = holder.transmit(at(10 * MS))
    holder.acknowledged(kept(before, 7), at(20 * MS))
    assert holder.check(ORDERS, at(20 * MS)) == "not_held"
    holder.withdrawn(ORDERS)
    holder.acknowledged(kept(between, 7), at(30 * MS))
    assert holder.check(ORDERS, at(30 * MS)) == "not_held"
    holder.acknowledged(kept(holder.transmit(at(40 * MS)), 8), at(50 * MS))
    assert holder.check(ORDERS, at(50 * MS)) == "valid"


def test_after_close_nothing_is_believed() -> None:  # P3.7
    holder, _ = led()
    late = holder.transmit(at(10 * MS))
    holder.close()
    assert holder.check(ORDERS, at(10 * MS)) == "not_held"
    holder.acknowledged(kept(late, 7), at(20 * MS))
    assert holder.check(ORDERS, at(20 * MS)) == "not_held"


def test_renewals_come_five_to_a_ttl() -> None:  # P3.7
    holder = Holder(TTL_US)
    assert holder.next_keepalive(START) == START
    holder.transmit(START)
    assert holder.next_keepalive(START) == at(200 * MS)


def test_run_has_time_to_terminate_and_a_timer_to_kill() -> None:  # P3.7
    holder, _ = led()
    assert holder.terminate_at(ORDERS) == at(VALID_US - 200 * MS)
    assert holder.kill_at(ORDERS) == at(VALID_US - 20 * MS)


# --- suspended machines ---------------------------------------------------------------------------------------------

WALL = 1_800_000_000 * SECOND


def test_a_forward_step_of_realtime_makes_leases_unconfirmed_until_a_later_keepalive_is_acknowledged() -> None:
    holder = Holder(TTL_US)
    holder.realtime(WALL, START)
    first = holder.transmit(START)
    holder.acknowledged(kept(first, 7), at(5 * MS))
    pending = holder.transmit(at(100 * MS))
    assert holder.realtime(WALL + 100 * MS + 251 * MS, at(100 * MS))
    assert holder.check(ORDERS, at(100 * MS)) == "unconfirmed"
    assert holder.remaining_us(ORDERS, at(100 * MS)) == 0
    assert holder.valid_until(ORDERS) is None
    assert holder.next_keepalive(at(100 * MS)) == at(100 * MS), "ask at once"
    holder.acknowledged(kept(pending, 7), at(110 * MS))
    assert holder.check(ORDERS, at(110 * MS)) == "unconfirmed", "it was sent before the step"
    holder.acknowledged(kept(holder.transmit(at(120 * MS)), 7), at(130 * MS))
    assert holder.check(ORDERS, at(130 * MS)) == "valid"


def test_a_step_of_a_quarter_ttl_or_less_is_no_resume() -> None:
    holder = Holder(TTL_US)
    holder.realtime(WALL, START)
    assert not holder.realtime(WALL + 250 * MS, START)


def test_small_steps_add_up_between_two_keepalives() -> None:
    holder = Holder(TTL_US)
    holder.realtime(WALL, START)
    holder.acknowledged(kept(holder.transmit(START), 7), START)
    assert not holder.realtime(WALL + 200 * MS, START)
    assert holder.realtime(WALL + 400 * MS, START)


def test_a_machine_that_stood_still_for_a_moment_has_that_much_less() -> None:
    """ADR 0036: BOOTTIME stood, and only REALTIME tells. Found by the simulation, seed 15834."""
    holder = Holder(TTL_US)
    holder.realtime(WALL, START)
    first, second = holder.transmit(START), holder.transmit(at(1 * MS))
    holder.acknowledged(kept(first, 7), at(5 * MS))
    holder.realtime(WALL + 10 * MS + 200 * MS, at(10 * MS))
    assert holder.valid_until(ORDERS) == at(VALID_US - 200 * MS)
    assert holder.check(ORDERS, at(VALID_US - 200 * MS)) == "ran_out"
    holder.realtime(WALL + 11 * MS, at(11 * MS))
    assert holder.valid_until(ORDERS) == at(VALID_US - 200 * MS), "set back: it stood still all the same"
    holder.acknowledged(kept(second, 7), at(12 * MS))
    assert holder.valid_until(ORDERS) == at(1 * MS + VALID_US - 200 * MS), "it was sent before, too"
    holder.acknowledged(kept(holder.transmit(at(20 * MS)), 7), at(25 * MS))
    assert holder.valid_until(ORDERS) == at(20 * MS + VALID_US)


@pytest.mark.parametrize("seed", range(30))
def test_validity_ends_earlier_by_the_largest_reading_since_the_send(seed: int) -> None:
    """ADR 0036, against a twin that remembers everything. The first reading says nothing of what was before it."""
    rng = Random(seed)
    holder = Holder(60 * SECOND)
    valid_us = validity_us(60 * SECOND, 1_200 * MS, 10)
    sent: dict[int, tuple[int, list[int]]] = {}
    offset, before = 0, list[int]()
    for micros in range(0, 400_000, 1_000):
        now = at(micros)
        if rng.random() < 0.3:
            number = holder.transmit(now)
            sent[number] = (now, before[-1:])
            if rng.random() < 0.5:
                holder.acknowledged(kept(rng.choice([each for each in sent if each + 40 > number]), 7), now)
        else:
            offset += rng.choice((0, 1, -1, 700, -700, -3_000))
            holder.realtime(WALL + micros + offset, now)
            before.append(offset)
            for _, seen in sent.values():
                seen.append(offset)
        until = holder.valid_until(ORDERS)
        if until is not None:
            when, seen = sent[holder._held[ORDERS].number]
            assert until == when - (max(seen) - seen[0] if seen else 0) + valid_us


def test_readings_that_fall_for_ever_are_forgotten_on_the_safe_side() -> None:
    holder = Holder(TTL_US)
    holder.realtime(WALL, START)
    held = holder.transmit(START)
    holder.acknowledged(kept(held, 7), at(1))
    holder.realtime(WALL + 100 * MS, START)
    for number in range(outstanding_max * 3):
        holder.transmit(at(number))
        holder.realtime(WALL + 100 * MS - 10 - number, START)
    assert len(holder._peaks._kept) <= outstanding_max
    assert holder.valid_until(ORDERS) == at(VALID_US - 100 * MS)


def test_a_backward_step_of_realtime_is_ignored() -> None:
    holder, _ = led()
    holder.realtime(WALL, at(10 * MS))
    assert not holder.realtime(WALL - 3_600 * SECOND, at(20 * MS))
    assert holder.check(ORDERS, at(20 * MS)) == "valid"
