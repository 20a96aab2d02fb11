"""Which cables a partition cuts. PURE: members are numbers, `leader` is one of them.

A nemesis is a row of phases that is gone through again and again while it lasts. Cables are cut in each direction by
itself: `(a, b)` means that b no longer hears a.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from msgspec import Struct

from lab.fabric import Pair

Cuts = frozenset[Pair]
Nemesis = Callable[[Sequence[int], int], "tuple[Phase, ...]"]
for_ever_s: Final = 3_600.0
flap_s: Final = 0.3


class Phase(Struct, frozen=True):
    """These cables are cut for so long."""

    cuts: Cuts
    seconds: float = for_ever_s


def both(pairs: Iterable[Pair]) -> Cuts:
    """Each of them in both directions."""
    return frozenset(cut for a, b in pairs for cut in ((a, b), (b, a)))


def apart(groups: Sequence[Sequence[int]]) -> Cuts:
    """No cable between any two groups."""
    return frozenset((a, b) for one in groups for other in groups if one is not other for a in one for b in other)


def _others(members: Sequence[int], leader: int) -> list[int]:
    return [member for member in members if member != leader]


def halves(members: Sequence[int], leader: int) -> tuple[Phase, ...]:
    """Two groups; the leader is in the smaller one."""
    others = _others(members, leader)
    few = (len(members) - 1) // 2
    return (Phase(apart(([leader, *others[: few - 1]], others[few - 1 :]))),)


def isolate_leader(members: Sequence[int], leader: int) -> tuple[Phase, ...]:
    """The leader alone."""
    return (Phase(apart(([leader], _others(members, leader)))),)


def leader_mute(members: Sequence[int], leader: int) -> tuple[Phase, ...]:
    """Nobody hears the leader, it hears all."""
    return (Phase(frozenset((leader, other) for other in _others(members, leader))),)


def leader_deaf(members: Sequence[int], leader: int) -> tuple[Phase, ...]:
    """All hear the leader, it hears nobody."""
    return (Phase(frozenset((other, leader) for other in _others(members, leader))),)


def leader_mute_to_one(members: Sequence[int], leader: int) -> tuple[Phase, ...]:
    """One follower no longer hears the leader."""
    return (Phase(frozenset({(leader, _others(members, leader)[0])})),)


def leader_deaf_to_one(members: Sequence[int], leader: int) -> tuple[Phase, ...]:
    """The leader no longer hears one follower."""
    return (Phase(frozenset({(_others(members, leader)[0], leader)})),)


def bridge_leads(members: Sequence[int], leader: int) -> tuple[Phase, ...]:
    """Two groups that only the leader connects."""
    others = _others(members, leader)
    half = len(others) // 2
    return (Phase(apart((others[:half], others[half:]))),)


def bridge_follows(members: Sequence[int], leader: int) -> tuple[Phase, ...]:
    """Two groups that one follower connects; the leader is in one of them."""
    others = _others(members, leader)
    half = len(others) // 2
    return (Phase(apart(([leader, *others[1:half]], others[half:]))),)


def chain(members: Sequence[int], leader: int) -> tuple[Phase, ...]:
    """Everybody reaches the next and the one before only; the leader is the first."""
    row = [leader, *_others(members, leader)]
    return (Phase(both((a, b) for at, a in enumerate(row) for b in row[at + 2 :])),)


def chain_around_leader(members: Sequence[int], leader: int) -> tuple[Phase, ...]:
    """The same with the leader in the middle."""
    row = _others(members, leader)
    row.insert(len(row) // 2, leader)
    return (Phase(both((a, b) for at, a in enumerate(row) for b in row[at + 2 :])),)


def flapping_cable(members: Sequence[int], leader: int) -> tuple[Phase, ...]:
    """The cable between the leader and one follower comes and goes."""
    cable = both([(leader, _others(members, leader)[0])])
    return (Phase(cable, flap_s), Phase(frozenset(), flap_s))


def flapping_leader(members: Sequence[int], leader: int) -> tuple[Phase, ...]:
    """All cables of the leader come and go."""
    return (Phase(both((leader, other) for other in _others(members, leader)), flap_s), Phase(frozenset(), flap_s))


NEMESES: Final[dict[str, Nemesis]] = {
    made.__name__.replace("_", "-"): made
    for made in (
        halves,
        isolate_leader,
        leader_mute,
        leader_deaf,
        leader_mute_to_one,
        leader_deaf_to_one,
        bridge_leads,
        bridge_follows,
        chain,
        chain_around_leader,
        flapping_cable,
        flapping_leader,
    )
}
