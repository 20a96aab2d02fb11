"""What a system under test must offer: the seam between the measurements and the two drivers."""

from collections.abc import Callable
from typing import Protocol

Answered = Callable[[bytes | None], None]
"""Called once per request: the answer's body, or None if it failed."""


class Lane(Protocol):
    """One connection (or a pool that looks like one) that asks requests encoded in advance."""

    def ask(self, request: bytes, answered: Answered) -> None:
        """Send; `answered` is called from the loop."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class KeepLane(Protocol):
    """One connection that keeps `sessions` sessions alive, each in a closed loop of its own."""

    count: int

    def begin(self) -> None:
        """Send the first keepalive of every session; each acknowledgement sends the next."""
        ...

    def close(self) -> None:
        """Stop and hang up."""
        ...


class Office(Protocol):
    """One election with a holder and a waiting candidate, for hand-over times."""

    async def stepdown_ms(self) -> float:
        """From the holder's giving it up until the candidate knows that it leads."""
        ...

    async def crash_ms(self) -> float:
        """From the holder's death until the candidate knows that it leads (Tenure: until its child is started)."""
        ...

    async def lost(self) -> float:
        """How many holdings have ended since the office was opened; nan where that isn't known."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


class Side(Protocol):
    """A three-member cluster of one system."""

    name: str

    async def start(self) -> None:
        """Start all members and wait until a write is acknowledged."""
        ...

    async def stop(self) -> None:
        """End all members."""
        ...

    async def settled(self) -> int:
        """Wait until all members are up, agree on a leader and take writes; the leader's number."""
        ...

    async def consensus_term(self) -> int:
        """Raft's term, which rises with every change of the consensus leader."""
        ...

    def pids(self) -> list[int]:
        """Of the running members."""
        ...

    def kill(self, member: int) -> None:
        """SIGKILL."""
        ...

    def freeze(self, member: int) -> None:
        """SIGSTOP."""
        ...

    async def mend(self, member: int) -> None:
        """Wake or restart it, and wait until the cluster is settled."""
        ...

    def rss_mb(self) -> list[float]:
        """Per member."""
        ...

    def cpu_s(self) -> list[float]:
        """Per member, since its start."""
        ...

    def put(self, number: int) -> bytes:
        """A write of a 64-byte value to one of 1000 keys, encoded."""
        ...

    def get(self, number: int) -> bytes:
        """A linearizable read of one of these keys, encoded."""
        ...

    async def put_lane(self, member: int) -> Lane:
        """A connection for writes."""
        ...

    async def get_lane(self, member: int) -> Lane:
        """A connection for reads."""
        ...

    async def open_loop_lane(self, member: int) -> Lane:
        """For writes that don't wait for each other."""
        ...

    async def once_lanes(self, member: int, connections: int) -> list[KeepLane]:
        """One session a connection, one request per keepalive (etcd: KeepAliveOnce; Tenure: REST)."""
        ...

    async def stream_lanes(
        self, member: int, connections: int, sessions: int, stream_each: bool = False
    ) -> list[KeepLane]:
        """Long-lived streams with `sessions` sessions on each connection (`stream_each`: a gRPC stream for each)."""
        ...

    async def office(self, member: int) -> Office:
        """An election of its own."""
        ...

    def remove(self) -> None:
        """Throw the data away, after `stop`."""
        ...
