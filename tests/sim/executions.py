"""Histories that are right because they were executed: clients of one store, each operation with an instant at which it
took effect; and the same with one thing wrong.

`executed` is for long ones, as clients of real members make them; `scrambled` for short ones in which much overlaps.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tenure.base.chance import SplitMix64
from tests.sim.linearizability import OPEN, Operation

slow_us: Final = 5_000


class Load(Struct, frozen=True):
    """What clients do; shares are in percent."""

    clients: int = 12
    keys: int = 3
    fenced_keys: int = 0
    reads: int = 50
    compares: int = 15
    lost: int = 5
    tells: bool = True
    """The store tells revisions."""


@dataclass
class Key:
    value: str | None = None
    revision: int = 0
    fenced: bool = False


@dataclass
class Store:
    """The store, and the election whose terms guard some of its keys."""

    revision: int = 0
    term: int = 1
    over: bool = False
    keys: dict[str, Key] = field(default_factory=dict)

    def put(self, asked: Operation) -> Operation:
        """`asked`, with what really came of it."""
        key = self.keys.setdefault(asked.key, Key())
        if (key.fenced or asked.term is not None) and (asked.term != self.term or self.over):
            return replace(asked, outcome="stale", current_term=self.term)
        if asked.if_revision not in {None, key.revision}:
            return replace(asked, outcome="mismatch")
        self.revision += 1
        key.value, key.revision, key.fenced = asked.value, self.revision, key.fenced or asked.term is not None
        return replace(asked, revision=self.revision)

    def get(self, asked: Operation) -> Operation:
        key = self.keys.setdefault(asked.key, Key())
        return replace(asked, value=key.value, revision=key.revision)

    def pass_term(self) -> None:
        """The holder goes, or a new one comes."""
        self.term, self.over = (self.term + 1, False) if self.over else (self.term, True)


def forgotten(done: Operation) -> Operation:
    """The same, for a caller that never learned it."""
    return replace(done, outcome="unknown", returned=OPEN, revision=None, current_term=None)


def schedule(rng: SplitMix64, load: Load, operations: int) -> list[tuple[int, int, int, int]]:
    """Instants of effect, call and return, and the client: one operation after the other each; few are very slow."""
    found: list[tuple[int, int, int, int]] = []
    free = [(0, client) for client in range(load.clients)]
    while len(found) < operations:
        called, client = heapq.heappop(free)
        effect = called + 1 + rng.below(60)
        returned = effect + 1 + rng.below(60)
        if rng.below(500) == 0:
            returned += slow_us
            effect += rng.below(slow_us)
        found.append((effect, called, returned, client))
        heapq.heappush(free, (returned + rng.below(5), client))
    return sorted(found)


def executed(seed: int, operations: int, load: Load) -> list[Operation]:
    """A long history, each value written once."""
    rng, store = SplitMix64(seed), Store()
    seen: dict[tuple[int, str], int] = {}
    history = []
    for number, (_, called, returned, client) in enumerate(schedule(rng, load, operations)):
        at = rng.below(load.keys)
        key, who, last = f"k{at}", f"c{client}", (client, f"k{at}")
        store.revision += rng.below(2)  # the log holds more than these
        if rng.below(1_000) == 0:
            store.pass_term()
        if rng.below(100) < load.reads:
            done = store.get(Operation(key, "get", called, returned, "ok", None, None, None, who))
            seen[last] = done.revision or 0
            history.append(done if load.tells else replace(done, revision=None))
            continue
        compares = load.tells and rng.below(100) < load.compares
        asked = Operation(key, "put", called, returned, "ok", f"v{number}", None, None, who)
        if compares:
            asked = replace(asked, if_revision=seen.get(last, 0))
        if at < load.fenced_keys:
            asked = replace(asked, election="e", term=max(1, store.term - (rng.below(10) == 0)))
        if rng.below(100) < load.lost:
            history.append(forgotten(asked if rng.below(2) else store.put(asked)))
            continue
        done = store.put(asked)
        if done.outcome == "ok":
            seen[last] = store.keys[key].revision
        history.append(done if load.tells else replace(done, revision=None))
    return history


def scrambled(rng: SplitMix64, operations: int) -> list[Operation]:
    """A short history with few values, some revisions told, much overlap; half of them on a fenced key."""
    store = Store()
    told, fenced, gaps = rng.below(4) * 40, rng.below(2) == 0, rng.below(3) * 25
    history, now = [], 0
    seen = [0]
    for _ in range(operations):
        now += rng.below(4)
        store.revision += 1 + rng.below(2) if rng.below(100) < gaps else 0
        if fenced and rng.below(10) < 3:
            store.pass_term()
        asked = Operation("k", "put", now - rng.below(5), now + rng.below(5), "ok", "abcd"[rng.below(4)])
        if rng.below(10) < 4:
            done = store.get(replace(asked, kind="get"))
        else:
            terms = [None, store.term, store.term, max(1, store.term - 1)] if fenced else [None]
            term = terms[rng.below(len(terms))]
            condition = [None, None, seen[rng.below(len(seen))]][rng.below(3)]
            asked = replace(asked, if_revision=condition, term=term, election="e" if term else None)
            is_lost = rng.below(4) == 0
            done = asked if is_lost and rng.below(3) == 0 else store.put(asked)
            done = forgotten(done) if is_lost else done
        if done.revision is not None and rng.below(100) < told:
            seen.append(done.revision)
        else:
            done = replace(done, revision=None)
        history.append(done)
    return history


def spoiled(rng: SplitMix64, history: Sequence[Operation]) -> list[Operation]:
    """One thing is different; perhaps it is still right."""
    place = rng.below(len(history))
    one = history[place]
    step = 1 if rng.below(2) else -1
    later = rng.below(13) - 6
    match rng.below(6):
        case 0:
            one = replace(one, value="abcd"[rng.below(4)])
        case 1 if one.revision is not None:
            one = replace(one, revision=max(0, one.revision + step))
        case 2 if one.if_revision is not None:
            one = replace(one, if_revision=max(0, one.if_revision + step))
        case 3 if one.term is not None:
            one = replace(one, term=max(1, one.term + step))
        case 4:
            return [*history[:place], *history[place + 1 :]]
        case _:
            one = replace(one, called=one.called + later, returned=min(OPEN, one.returned + later))
    return [*history[:place], one, *history[place + 1 :]]


# --- what a broken store would do, late in a long history -------------------------------------------------------------


def stale_read(history: Sequence[Operation]) -> list[Operation]:
    """Somebody reads what was overwritten before they asked."""
    reads = [place for place, each in enumerate(history) if each.kind == "get" and each.value is not None]
    late = history[reads[-10]]
    old = next(
        history[place]
        for place in reversed(reads)
        if history[place].key == late.key
        and any(
            history[place].returned < each.called and each.returned < late.called and each.value != history[place].value
            for each in history[place:]
            if each.key == late.key and each.kind == "put" and each.outcome == "ok"
        )
    )
    return exchanged(history, late, replace(late, value=old.value, revision=old.revision))


def lost_update(history: Sequence[Operation]) -> list[Operation]:
    """A write is acknowledged and then not there: whoever saw it saw the one before."""
    for write in reversed(history):
        readers = [each for each in history if each.kind == "get" and each.value == write.value]
        if write.kind == "put" and write.outcome == "ok" and any(each.called > write.returned for each in readers):
            gone = {write.value}
            before = max(
                (each for each in history if each.kind == "put" and each.key == write.key and _is_before(each, write)),
                key=lambda each: each.returned,
            )
            return [
                replace(each, value=before.value, revision=before.revision)
                if each.kind == "get" and each.value in gone
                else each
                for each in history
            ]
    raise AssertionError("no write was ever read")


def _is_before(each: Operation, write: Operation) -> bool:
    return each.outcome == "ok" and each.returned < write.called


def effect_of(outcome: str) -> Callable[[Sequence[Operation]], list[Operation]]:
    """A write that was refused shows all the same."""

    def plant(history: Sequence[Operation]) -> list[Operation]:
        refused = [each for each in history if each.outcome == outcome][-5]
        reader = next(
            each
            for each in history
            if each.kind == "get" and each.key == refused.key and each.called > refused.returned and each.value
        )
        return exchanged(history, reader, replace(reader, value=refused.value))

    return plant


def second_effect(history: Sequence[Operation]) -> list[Operation]:
    """An unknown write took effect, was overwritten, and took effect once more."""
    lost = {each.value: each for each in history if each.outcome == "unknown"}
    first = [each for each in history if each.kind == "get" and each.value in lost][-5]
    again = next(
        each
        for each in reversed(history)
        if each.kind == "get" and each.key == first.key and (each.revision or 0) > (first.revision or 0)
    )
    return exchanged(history, again, replace(again, value=first.value))


def late_term(history: Sequence[Operation]) -> list[Operation]:
    """A write under a term that is over is let through."""
    refused = [each for each in history if each.outcome == "stale" and each.current_term != each.term][-5]
    return exchanged(history, refused, replace(refused, outcome="ok", revision=None, current_term=None))


def turned_back(history: Sequence[Operation]) -> list[Operation]:
    """On another key, a later write gets a lower place in the log."""
    writes = [each for each in history if each.kind == "put" and each.outcome == "ok"]
    late = writes[-5]
    early = next(each for each in reversed(writes) if each.key != late.key and each.returned < late.called)
    unseen = [each for each in history if each.revision not in {early.revision, late.revision} or each in {early, late}]
    early, late = replace(early, revision=late.revision), replace(late, revision=early.revision)
    return [each for each in unseen if each.value not in {early.value, late.value}] + [early, late]


def exchanged(history: Sequence[Operation], old: Operation, new: Operation) -> list[Operation]:
    assert old != new
    return [new if each is old else each for each in history]
