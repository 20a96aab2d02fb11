"""What a seed draws: the shape of the cluster, and each fault on or off with its own rate (VERIFICATION 4, "swarm").

Many faults at once hide each other: a cluster that is always partitioned never elects anybody. So each is drawn alone,
and about half of them are off in any one seed.
"""

from dataclasses import dataclass
from random import Random
from typing import Final

MS: Final = 1_000
SECOND: Final = 1_000_000
HOUR: Final = 3_600 * SECOND
crowds_max: Final = 2
RHO_PPM: Final = 10_000
"""Clock rates differ by at most this much from true time (ρ = 1 %, P3.7)."""
CLOCKS: Final = 32


@dataclass(frozen=True, slots=True)
class Engine:
    """Limits of the core and the replica, small enough that a run meets them."""

    snapshot_entries: int
    snapshot_piece_bytes: int
    installing_entries_max: int
    snapshot_chunk_bytes: int
    snapshot_inflight_bytes_max: int
    log_held_us: int
    log_kept_entries: int
    witness_entries_max: int
    append_entries_max: int
    inflight_appends_max: int
    committed_per_step_max: int
    rounds_inflight_max: int
    pending_max: int
    watch_queued_max: int
    features: tuple[int, ...]
    """What each member speaks in its first life; from its second life on all speak the newest (P10)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is fixed for one run. Probabilities are per thousand, times in microseconds."""

    voters: int
    clients: int
    nodes: int
    watchers: int
    elections: int
    changing: bool
    """Members come and go (P7)."""
    founding: bool
    """The members found their cluster by themselves, with crashes and wiped disks (P1.2)."""
    # the network
    latency_us: int
    jitter_us: int
    ordered: bool
    """Frames of one connection keep their order and get lost only with it, as on TCP."""
    loss: int
    duplicate: int
    replay: int
    spike: int
    spike_us: int
    silent_death: int
    healed_loss: int
    """What stays lost when all is healed: L3 promises no change of leader up to 5 %."""
    # the disk
    sync_us: int
    # faults of the nemesis: mean time between any two, and the weight of each kind
    nemesis_us: int
    weights: dict[str, int]
    boundary_ppm: int
    """Chance that a process dies, or stands still, in the middle of acting on a step, per million."""
    outage_us: int
    """Mean length of an outage of any kind."""
    # clocks
    rates_ppm: tuple[int, ...]
    wild: bool
    """Clocks of any rate from a tenth to ten times true time: then no promise about leases holds, all others do."""
    # how a member's loop takes its turns
    busy_us: int
    """A loop that comes round no faster than this; 0: at once."""
    late_us: int
    """Timers that come late by up to this much, and say so (P6.3)."""
    polls: bool
    """What came in is one turn, what is due the next, as the driver does it; else each turn is drained (P4.7)."""
    engine: Engine
    # users
    ttls_ms: tuple[int, ...]
    kept: tuple[bool, ...]
    """Of each node, whether the SDK's keeper keeps its session."""
    stream_faults: int
    """Connections of keepers that break, or fall silent, with a message."""
    think_us: int
    patience_us: int
    grace_ms: int
    crowd: int
    """So many sessions open at once and fall silent together; at most `crowds_max` times in a run."""


KINDS: Final = (
    # members
    "crash", "crash_all", "storm", "pause", "loop_stall", "suspend", "clock_step", "realtime",
    # disks
    "stall", "stall_all", "full", "eio", "flip", "rollback", "wipe",
    # network
    "isolate", "halves", "one_way", "bridge", "chain", "flap", "flap_all", "fin", "latency",
    # users
    "transfer", "transfer_twice", "node_crash", "node_pause", "node_clock", "stepdown", "crowd",
    # members, by request (P7)
    "member_add", "member_promote", "member_demote", "member_remove", "member_replace", "member_amend",
)  # fmt: skip
NODES_MAX: Final = 5
MEMBERS_MAX: Final = 20
"""Who founded and who came later, together."""
FOR_EVER: Final = ("flip", "rollback", "wipe")
"""They take a member out for good."""


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    rng = Random(seed)  # its own stream, so that a new draw here doesn't change how the run itself unfolds

    def on(value: int, chance: float = 0.5) -> int:
        return value if rng.random() < chance else 0

    def spread(low: int, high: int) -> int:
        return int(low * (high / low) ** rng.random())

    ordered = rng.random() < 0.5
    changing = rng.random() < 0.4
    latency = spread(50, 20 * MS)
    exact, wild = rng.random() < 0.3, rng.random() < 0.05
    every = rng.choice((10_000, spread(1, 50), spread(1, 50)))
    return Plan(
        voters=rng.choice((1, 2, 3, 3, 3, 3, 3, 3, 3, 4, 5, 5, 5, 5, 6, 7)),
        clients=rng.randint(1, 6),
        nodes=rng.randint(2, NODES_MAX),
        watchers=rng.randint(0, 3),
        elections=rng.randint(1, 3),
        changing=changing,
        founding=rng.random() < 0.3,
        latency_us=latency,
        jitter_us=on(int(latency * rng.random() * 3), 0.7),
        ordered=ordered,
        loss=0 if ordered else on(spread(1, 300)),
        duplicate=0 if ordered else on(spread(1, 200)),
        replay=0 if ordered else on(spread(1, 50)),
        spike=on(spread(1, 20), 0.3),
        spike_us=spread(50 * MS, 5 * SECOND),
        silent_death=on(rng.randint(1, 1000)),
        healed_loss=0 if ordered else on(spread(1, 50)),
        sync_us=spread(100, 10 * MS),
        nemesis_us=spread(20 * MS, 2 * SECOND),
        weights={kind: on(spread(1, 20), often(kind, changing=changing)) for kind in KINDS},
        boundary_ppm=on(spread(100, 3_000)),
        outage_us=spread(20 * MS, 3 * SECOND),
        rates_ppm=tuple(
            wild_rate(rng) if wild else 0 if exact else rng.randint(-RHO_PPM, RHO_PPM) for _ in range(CLOCKS)
        ),
        wild=wild,
        busy_us=on(spread(100, 5 * MS), 0.3),
        late_us=on(spread(100, 20 * MS), 0.3),
        polls=rng.random() < 0.5,
        engine=Engine(
            snapshot_entries=every,
            snapshot_piece_bytes=rng.choice((256 * 1024, spread(50, 5_000))),
            installing_entries_max=rng.choice((512, spread(1, 20))),
            snapshot_chunk_bytes=rng.choice((64 * 1024, spread(200, 10_000))),
            snapshot_inflight_bytes_max=spread(1_000, 512 * 1024),
            log_held_us=rng.choice((60 * SECOND, spread(50 * MS, 5 * SECOND))),
            log_kept_entries=rng.choice((0, 1, 10, 1_000)),
            witness_entries_max=spread(20, 1_000),
            append_entries_max=rng.choice((1_024, spread(5, 50))),
            inflight_appends_max=rng.choice((64, spread(2, 8))),
            committed_per_step_max=rng.choice((4_096, spread(2, 20))),
            rounds_inflight_max=rng.randint(1, 3),
            pending_max=rng.choice((50_000, 50_000, spread(5, 50))),
            watch_queued_max=spread(4, 1_000),
            features=tuple(rng.choice((1, 2)) for _ in range(CLOCKS)) if rng.random() < 0.3 else (1,) * CLOCKS,
        ),
        ttls_ms=tuple(rng.choice((5, 20, 100, 100, 300, 300, 1_000, 3_000, 10_000)) for _ in range(8)),
        think_us=spread(1 * MS, 200 * MS),
        patience_us=spread(20 * MS, 3 * SECOND),
        grace_ms=spread(10, 1_000),
        crowd=rng.choice((20, 100, 300)) if every < 1_000 else rng.choice((20, 300, 1_000)),
        kept=tuple(rng.random() < 0.5 for _ in range(NODES_MAX)),
        stream_faults=on(spread(1, 50), 0.7),
    )


def often(kind: str, *, changing: bool) -> float:
    """In how many seeds a kind of fault is on. `changing`: members come and go in this one."""
    if kind in FOR_EVER:
        return 0.15
    if kind.startswith("member_"):
        return 0.8 if changing else 0.0
    return 0.45


def wild_rate(rng: Random) -> int:
    """A rate from a tenth to ten times true time, in millionths that it differs."""
    return int((10 ** rng.uniform(-1, 1) - 1) * 1_000_000)
