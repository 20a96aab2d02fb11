"""What a seed draws: the shape of the cluster, and each fault on or off with its own rate (VERIFICATION 4).

Many faults at once hide each other: a cluster that is always partitioned never elects anybody. So each is drawn alone,
and about half of them are off in any one seed.
"""

from dataclasses import dataclass, replace
from random import Random

MS = 1_000
SECOND = 1_000_000
crowds_max = 2
RHO_PPM = 10_000
"""Clock rates differ by at most this much from true time (ρ = 1 %, P3.7)."""


@dataclass(frozen=True)
class Plan:
    """Everything that is fixed for one run. Probabilities are per thousand, times in microseconds."""

    voters: int
    clients: int
    nodes: int
    elections: int
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
    # the disk
    sync_us: int
    # faults of the nemesis: mean time between any two, and the weight of each kind
    nemesis_us: int
    weights: dict[str, int]
    boundary_crash_ppm: int
    """Chance of a crash in the middle of acting on a step, per million."""
    outage_us: int
    """Mean length of an outage of any kind."""
    # clocks
    rates_ppm: tuple[int, ...]
    # the engine
    snapshot_entries: int
    log_kept_entries: int
    busy_us: int
    """A loop that takes its turns no faster than this; 0: at once."""
    # users
    ttls_ms: tuple[int, ...]
    think_us: int
    patience_us: int
    grace_ms: int
    wild: bool = False
    """Clocks of any rate from a tenth to ten times true time: then no promise about leases holds, all others do."""
    crowd: int = 0
    """So many sessions open at once and fall silent together; at most `crowds_max` times in a run."""


KINDS = (
    "crash", "crash_all", "isolate", "halves", "one_way", "bridge", "flap", "fin", "pause", "stall", "transfer",
    "node_crash", "node_pause", "stepdown", "latency",
)  # fmt: skip
LATER_KINDS = ("suspend", "clock_step", "storm", "crowd")
"""Drawn after all else, so that the plans of older seeds stay as they were."""


def draw(seed: int) -> Plan:
    """The plan of a seed."""
    rng = Random(seed)  # its own stream, so that a new draw here doesn't change how the run itself unfolds

    def on(value: int, chance: float = 0.5) -> int:
        return value if rng.random() < chance else 0

    def spread(low: int, high: int) -> int:
        return int(low * (high / low) ** rng.random())

    voters = rng.choice((1, 3, 3, 3, 3, 3, 3, 5, 5, 5))
    ordered = rng.random() < 0.5
    latency = spread(50, 20 * MS)
    exact = rng.random() < 0.3
    weights = {kind: on(spread(1, 20)) for kind in KINDS}
    plan = Plan(
        voters=voters,
        clients=rng.randint(1, 6),
        nodes=rng.randint(2, 5),
        elections=rng.randint(1, 3),
        latency_us=latency,
        jitter_us=on(int(latency * rng.random() * 3), 0.7),
        ordered=ordered,
        loss=0 if ordered else on(spread(1, 300)),
        duplicate=0 if ordered else on(spread(1, 200)),
        replay=0 if ordered else on(spread(1, 50)),
        spike=on(spread(1, 20), 0.3),
        spike_us=spread(50 * MS, 5 * SECOND),
        silent_death=on(rng.randint(1, 1000)),
        sync_us=spread(100, 10 * MS),
        nemesis_us=spread(20 * MS, 2 * SECOND),
        weights=weights,
        boundary_crash_ppm=on(spread(100, 3_000)),
        outage_us=spread(20 * MS, 3 * SECOND),
        rates_ppm=tuple(0 if exact else rng.randint(-RHO_PPM, RHO_PPM) for _ in range(16)),
        snapshot_entries=rng.choice((10_000, spread(1, 50), spread(1, 50))),
        log_kept_entries=rng.choice((0, 1, 10, 1_000)),
        busy_us=on(spread(100, 5 * MS), 0.3),
        ttls_ms=tuple(rng.choice((20, 100, 300, 1_000, 3_000)) for _ in range(8)),
        think_us=spread(1 * MS, 200 * MS),
        patience_us=spread(20 * MS, 3 * SECOND),
        grace_ms=spread(10, 1_000),
    )
    weights |= {kind: on(spread(1, 10), 0.3) for kind in LATER_KINDS}
    wild = rng.random() < 0.05
    return replace(
        plan,
        weights=weights,
        wild=wild,
        rates_ppm=tuple(wild_rate(rng) for _ in range(16)) if wild else plan.rates_ppm,
        crowd=rng.choice((20, 100, 300)) if plan.snapshot_entries < 1_000 else rng.choice((20, 300, 1_000)),
        ttls_ms=tuple(rng.choice((5, 10_000)) if rng.random() < 0.1 else ttl for ttl in plan.ttls_ms),
    )


def wild_rate(rng: Random) -> int:
    """A rate from a tenth to ten times true time, in millionths that it differs."""
    return int((10 ** rng.uniform(-1, 1) - 1) * 1_000_000)
