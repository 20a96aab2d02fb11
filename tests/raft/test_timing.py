"""Timeouts follow what was measured (P6.2): up at once, down slowly, within their bounds."""

from hypothesis import given
from hypothesis import strategies as st

from tenure.base.ids import MemberId
from tenure.base.instants import MS, SECOND, Instant
from tenure.raft.settings import Settings
from tenure.raft.timing import Timing, Window

LEADER = MemberId("a")
SETTINGS = Settings()
H = SETTINGS.heartbeat_us


def test_without_jitter_the_timeout_is_interval_plus_floor() -> None:
    """H + 75 ms by default."""
    timing = Timing(SETTINGS)
    assert timing.leader_timeout(LEADER, H, Instant(0)) == H + SETTINGS.floor_us


def test_one_long_gap_raises_the_timeout_at_once_and_it_comes_down_slowly() -> None:
    """Twice the largest excess, until that has decayed."""
    timing = Timing(SETTINGS)
    timing.gap_sample(H + 100 * MS, H, Instant(0))
    raised = timing.leader_timeout(LEADER, H, Instant(0))
    assert raised == H + 200 * MS  # also four deviations
    previous, now = SETTINGS.timeout_max_us, 0  # the deviation may still rise while the mean falls back
    for _ in range(4000):
        now += H
        timing.gap_sample(H, H, Instant(now))
        current = timing.leader_timeout(LEADER, H, Instant(now))
        assert previous - current <= previous // 32 + 1
        previous = current
    assert previous < raised


def test_the_timeout_never_passes_its_bound_on_a_lan() -> None:
    """T ≤ max(250 ms, 10·srtt)."""
    timing = Timing(SETTINGS)
    timing.rtt_sample(LEADER, 1 * MS, Instant(0))
    timing.gap_sample(10 * SECOND, H, Instant(0))
    timing.leader_lateness = 5 * SECOND
    assert timing.leader_timeout(LEADER, H, Instant(0)) == SETTINGS.timeout_max_us


def test_a_wide_area_may_wait_ten_round_trips() -> None:
    """At 100 ms RTT the bound is a second, and the floor two round trips."""
    timing = Timing(SETTINGS)
    for _ in range(50):
        timing.rtt_sample(LEADER, 100 * MS, Instant(0))
    assert timing.leader_timeout(LEADER, H, Instant(0)) == H + 200 * MS
    timing.leader_lateness = 5 * SECOND
    assert timing.leader_timeout(LEADER, H, Instant(0)) == 10 * timing.srtt(LEADER)


def test_a_new_leader_starts_without_the_old_ones_jitter() -> None:
    """P6.2: H + max(floor, 3·srtt)."""
    timing = Timing(SETTINGS)
    timing.gap_sample(H + 90 * MS, H, Instant(0))
    assert timing.forget_leader(LEADER) == H + SETTINGS.floor_us
    timing.gap_sample(H, H, Instant(H))
    assert timing.leader_timeout(LEADER, H, Instant(H)) == H + SETTINGS.floor_us


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=16))
def test_a_window_tells_the_percentile(samples: list[int]) -> None:
    """Twin: sort them all."""
    window = Window(0.5, 7)
    assert window.value == 7
    for sample in samples:
        window.add(sample)
    assert window.value == sorted(samples)[min(len(samples) - 1, len(samples) // 2)]


def test_the_disk_stall_bound_is_clamped() -> None:
    """D = clamp(10 × fsync p99, 500 ms, 2 s) (P4.1)."""
    timing = Timing(SETTINGS)
    assert timing.disk_stall == SETTINGS.disk_stall_min_us
    for _ in range(50):
        timing.sync_sample(1 * SECOND)
    assert timing.disk_stall == SETTINGS.disk_stall_max_us


def test_what_a_frozen_peer_answers_when_it_wakes_is_no_round_trip() -> None:
    """Its pongs come in one burst; taken for round trips they made A, and with it each step and T, seconds long."""
    timing = Timing(SETTINGS)
    now = 0
    for _ in range(40):
        now += 250 * MS
        timing.rtt_sample(LEADER, 1 * MS, Instant(now))
    before = (timing.step, timing.vote_timeout, timing.srtt(LEADER))
    for _ in range(10):
        now += 2 * SECOND
        for waited in range(2_000, 0, -250):
            timing.rtt_sample(LEADER, waited * MS, Instant(now))
        for _ in range(4):
            now += 250 * MS
            timing.rtt_sample(LEADER, 1 * MS, Instant(now))
    assert (timing.step, timing.vote_timeout, timing.srtt(LEADER)) == before


def test_a_path_that_has_become_long_is_believed_after_a_second() -> None:
    """A route over another continent is no stall: its round trips go on being long."""
    timing = Timing(SETTINGS)
    for number in range(40):
        timing.rtt_sample(LEADER, 1 * MS, Instant(number * 250 * MS))
    for number in range(40, 80):
        timing.rtt_sample(LEADER, 400 * MS, Instant(number * 250 * MS))
    assert timing.rtt_p99 == 400 * MS
    assert timing.srtt(LEADER) > 350 * MS


def test_a_stall_that_no_timeout_could_cover_is_not_told_as_lateness() -> None:
    """T is bounded: a leader that slept for seconds is replaced anyway, and later others would wait for nothing."""
    timing = Timing(SETTINGS)
    timing.lateness_sample(3 * MS, Instant(0))
    timing.lateness_sample(2 * SECOND, Instant(0))
    assert timing.lateness(Instant(0)) == 3 * MS
    timing.lateness_sample(SETTINGS.timeout_max_us - 1, Instant(0))
    assert timing.lateness(Instant(0)) == SETTINGS.timeout_max_us - 1
    far = Timing(SETTINGS)
    far.rtt_sample(LEADER, 100 * MS, Instant(0))
    far.lateness_sample(800 * MS, Instant(0))
    assert far.lateness(Instant(0)) == 800 * MS


def lateness_after(minutes: int, stalls: tuple[int, ...]) -> int:
    """What is told after `minutes` of beats on time and these stalls in the last second of them."""
    timing = Timing(SETTINGS)
    timing.lateness_sample(2 * MS, Instant(0))
    now = minutes * 60 * SECOND
    for number, stall_us in enumerate(stalls):
        timing.lateness_sample(stall_us, Instant(now - SECOND + number))
    return timing.lateness(Instant(now))


def test_lateness_is_the_thousandth_worst_of_all_beats_not_of_the_late_ones() -> None:
    """P6.2 says p99.9: of the 2 400 beats of a minute two may be worse. A young process knows only its worst."""
    assert lateness_after(0, (90 * MS,)) == 90 * MS
    assert lateness_after(5, (90 * MS, 80 * MS)) == 0
    assert lateness_after(5, (90 * MS, 80 * MS, 70 * MS, 60 * MS)) == 70 * MS


def test_lateness_is_forgotten_after_a_minute() -> None:
    """A busy minute is not held against the hours after it."""
    timing = Timing(SETTINGS)
    for number in range(1_000):
        timing.lateness_sample(50 * MS, Instant(number))
    assert timing.lateness(Instant(59 * SECOND)) == 50 * MS
    assert timing.lateness(Instant(61 * SECOND)) == 0
