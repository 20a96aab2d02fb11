"""A run in words: who did what, why, and at what virtual time; for somebody who wants to understand one seed.

`about` keeps only lines in which one of some words stands (`m1`, `t7`, `snapshot`), `since_us` only what is later;
`turns` adds every turn with what came in and what went out.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Final

import msgspec

from tenure.engines.native.inputs import Asked, Effects, Input, PeerCall, PeerReply
from tenure.raft.events import Received
from tenure.raft.messages import Envelope, Heartbeat, HeartbeatReply
from tests.sim.host import Host
from tests.sim.world import World

SHOWN: Final = 160
EMPTY: Final = (None, (), "")
DULL: Final = frozenset({"pre_vote_answered", "note_void"})


class Telling:
    """Prints what it is told, one line a thing."""

    def __init__(
        self,
        write: Callable[[str], None],
        about: Sequence[str] = (),
        since_us: int = 0,
        *,
        turns: bool = False,
    ) -> None:
        self.world: World | None = None
        self._write = write
        self._about = tuple(about)
        self._since_us = since_us
        self._turns = turns
        self._lead: dict[str, tuple[str, int, str | None]] = {}

    def begin(self, world: World) -> None:
        """Whose run it is, and what its seed has drawn."""
        self.world = world
        drawn = asdict(world.plan)
        drawn["weights"] = {kind: weight for kind, weight in world.plan.weights.items() if weight}
        for name, value in drawn.items():
            self._write(f"    {name}: {value}")

    def said(self, who: str, text: str) -> None:
        """Something happened to somebody."""
        assert self.world is not None
        if self.world.now < self._since_us:
            return
        line = f"{self.world.now / 1e6:12.6f}  #{self.world.steps:<6} {who:<8} {text}"
        if not self._about or any(word in line for word in self._about):
            self._write(line)

    def turn(self, host: Host, items: Sequence[Input], effects: Effects) -> None:
        """A member took a turn: its decisions, and if wanted all that came in and went out."""
        if self._turns:
            for item in items:
                self.said(host.name, "◄ " + shown(item))
        for trace in effects.traces:
            if trace.what not in DULL:
                detail = " ".join(f"{key}={value}" for key, value in trace.detail.items())
                self.said(host.name, f"{trace.what} {detail}")
        for transition in effects.transitions:
            if transition.kind != "kv" and host.led_last:
                self.said(host.name, "told " + brief(transition))
        if self._turns:
            for _, frame in effects.send:
                self.said(host.name, "► " + shown(frame))
            if effects.write is not None:
                self.said(host.name, "disk " + brief(effects.write)[:SHOWN])
            for token, result in effects.answers:
                self.said(host.name, f"answers {token}: {brief(result)[:SHOWN]}")


def shown(item: object) -> str:
    """A frame or an input in one short line."""
    match item:
        case Received():
            return shown(item.envelope)
        case Envelope():
            body = item.message
            if isinstance(body, Heartbeat | HeartbeatReply):
                return f"{item.sender[-2:]}→{item.to[-2:]} {type(body).__name__} t{body.term} #{body.number}"
            return f"{item.sender[-2:]}→{item.to[-2:]} {brief(body)[:SHOWN]}"
        case PeerCall():
            return f"call {item.call.id} {brief(item.call.request)[:SHOWN]}"
        case PeerReply():
            return f"reply {item.reply.id} {brief(item.reply.result)[:SHOWN]}"
        case Asked():
            return f"asked {item.token} {brief(item.request)[:SHOWN]}"
        case _:
            return brief(item)[:SHOWN]


def brief(value: object) -> str:
    """A value without what it leaves empty."""
    if not isinstance(value, msgspec.Struct):
        return str(value)
    fields = [(name, getattr(value, name)) for name in value.__struct_fields__]
    said = [f"{name}={brief(one)}" for name, one in fields if one not in EMPTY]
    return f"{type(value).__name__} " + " ".join(said)
