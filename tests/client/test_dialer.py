"""The dialer: whom to dial, and when to look again."""

from tenure.base.chance import SplitMix64
from tenure.base.instants import MS, SECOND, Instant
from tenure.client.dialer import Dialer

HERE, THERE = "http://m1:8368", "http://m2:8368"
NOW = Instant(10 * SECOND)


def dialer(*endpoints: str) -> Dialer:
    made = Dialer(SplitMix64(7))
    made.learn(endpoints)
    return made


def test_while_the_only_other_endpoint_waits_nothing_is_due() -> None:
    """Who moves away from a silent endpoint looked at it again and again until another might be dialled."""
    moving = dialer(HERE, THERE)
    moving.failed(THERE, NOW)
    assert moving.dial(NOW, avoid=HERE) == ()
    assert NOW < moving.deadline(avoid=HERE) <= NOW + 20 * MS
    assert moving.dial(moving.deadline(avoid=HERE), avoid=HERE) == (THERE,)


def test_the_only_endpoint_is_dialled_although_it_is_to_be_avoided() -> None:
    moving = dialer(HERE)
    assert moving.deadline(avoid=HERE) <= NOW
    assert moving.dial(NOW, avoid=HERE) == (HERE,)


def test_after_what_is_due_was_dialled_the_deadline_lies_ahead() -> None:
    for known in ((HERE,), (HERE, THERE), (HERE, THERE, "http://m3:8368")):
        for avoid in (None, HERE):
            moving = dialer(*known)
            moving.dial(NOW, avoid)
            assert moving.deadline(avoid) > NOW


def test_those_that_open_and_serve_nobody_come_before_nobody_for_ever() -> None:
    """Members that were removed accept connections; the one that serves had been down for long (seed 4082)."""
    removed = ("http://m1:8368", "http://m2:8368", "http://m3:8368")
    moving = dialer(*removed, HERE.replace("m1", "m4"))
    serving = moving.known()[-1]
    now = NOW
    for _ in range(20):
        moving.failed(serving, now)
    here: str | None = None
    tried: list[str] = []
    while serving not in tried and len(tried) < 20:
        now = Instant(now + 2 * SECOND)
        for begun in moving.dial(now, here):
            moving.opened(begun)
            if here is not None:
                moving.failed(here, now)
            here = begun
            tried.append(begun)
    assert serving in tried


def test_a_good_answer_makes_up_for_all_failures() -> None:
    known = dialer(HERE, THERE)
    known.failed(HERE, NOW)
    later = Instant(NOW + 2 * SECOND)
    assert known.dial(later) == (THERE,)
    known.opened(THERE)
    known.served(HERE)
    known.failed(THERE, later)
    assert known.dial(Instant(later + 2 * SECOND)) == (HERE,)


def test_who_opens_and_serves_nobody_waits_longer_each_time() -> None:
    known, now, waits = dialer(HERE), NOW, []
    for _ in range(4):
        assert known.dial(now) == (HERE,)
        known.opened(HERE)
        known.failed(HERE, now)
        waits.append(known.deadline() - now)
        now = known.deadline()
    assert waits == sorted(waits)
    assert waits[-1] >= 80 * MS
