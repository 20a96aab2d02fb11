"""Nodes and their switch: made, bent, cut and ended here."""

import socket
import subprocess
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self

import msgspec

from lab import ground
from lab.fabric import Cable, Counts, Pair
from lab.ground import Node
from lab.switch import Command, CutOnly, Reshape, Tell, Told, control_bytes_max

answer_s_max: Final = 10.0


class Weather(msgspec.Struct, frozen=True):
    """What all cables are like. `spike_ms`: now and then one cable takes so much longer for a moment (`spikes`)."""

    rtt_ms: float
    jitter_ms: float = 0.0
    loss: float = 0.0
    spike_ms: float = 0.0

    def __str__(self) -> str:
        parts = [f"RTT {self.rtt_ms:g} ms"]
        if self.jitter_ms:
            parts.append(f"± {self.jitter_ms:g} ms")
        if self.loss:
            parts.append(f"{self.loss:.0%} lost")
        if self.spike_ms:
            parts.append(f"spikes of {self.spike_ms:g} ms")
        return ", ".join(parts)

    def cable(self, extra_ms: float = 0.0) -> Cable:
        """One direction of it: half the round trip, half its jitter."""
        return Cable(int((self.rtt_ms / 2 + extra_ms) * 1_000), int(self.jitter_ms / 2 * 1_000), self.loss)


class Network:
    """`size` nodes, all connected. `NotPermitted` where the machine doesn't let us."""

    def __init__(self, size: int, seed: int = 1) -> None:
        self.nodes: list[Node] = ground.make(size)
        self.weather = Weather(0)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(answer_s_max)
        self._control = ours
        tuns = [node.tun for node in self.nodes]
        command = [sys.executable, "-m", "lab.switch", str(theirs.fileno()), str(seed), *(str(tun) for tun in tuns)]
        self._switch = subprocess.Popen(command, pass_fds=[theirs.fileno(), *tuns], stdin=subprocess.DEVNULL)
        theirs.close()
        self.scheduling = self._ask(Tell()).scheduling

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pairs(self) -> list[Pair]:
        """All cables."""
        return [(a.number, b.number) for a in self.nodes for b in self.nodes if a is not b]

    def set_weather(self, weather: Weather) -> None:
        """For all cables, from now on."""
        self.weather = weather
        self._ask(Reshape(self.pairs, weather.cable()))

    def spike(self, pair: Pair, extra_ms: float) -> None:
        """This cable takes so much longer; 0 ends it."""
        self._ask(Reshape([pair], self.weather.cable(extra_ms)))

    def away(self, number: int, rtt_ms: float) -> None:
        """This node is so far from all others, there and back, until the weather changes."""
        self._ask(Reshape([pair for pair in self.pairs if number in pair], Weather(rtt_ms).cable()))

    def cut_only(self, pairs: Iterable[Pair]) -> None:
        """These cables are cut, all others whole."""
        self._ask(CutOnly(sorted(pairs)))

    def heal(self) -> None:
        """All cables are whole."""
        self.cut_only(())

    def tell(self) -> Counts:
        """What the switch did since the last time."""
        counts = self._ask(Tell()).counts
        assert counts is not None
        return counts

    def close(self) -> None:
        """End the switch and let go of the nodes."""
        self._control.close()
        self._switch.wait(answer_s_max)
        for node in self.nodes:
            node.close()

    def _ask(self, command: Command) -> Told:
        self._control.send(msgspec.msgpack.encode(command))
        data = self._control.recv(control_bytes_max)
        if not data:
            raise ConnectionError(f"the switch has ended with status {self._switch.wait(answer_s_max)}")
        return msgspec.msgpack.decode(data, type=Told)
