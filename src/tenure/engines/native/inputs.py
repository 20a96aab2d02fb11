"""What a replica takes and what it gives: inputs of one turn, effects in the order in which the driver acts on them."""

from typing import Final

from msgspec import Struct

from tenure.base.ids import LogIndex, MemberId
from tenure.base.instants import NEVER, SECOND, Instant
from tenure.leadership.engine import AnyRequest, AnyResult, Origin, Transition
from tenure.raft.entries import Configuration
from tenure.raft.events import Event
from tenure.raft.messages import Envelope
from tenure.raft.ready import Batch, Fatal, Trace
from tenure.wire.frames import Call, CallReply


class Asked(Struct, frozen=True, gc=False):
    """Somebody asks this member; the answer comes back under `token`."""

    token: int
    request: AnyRequest
    origin: Origin | None = None


class PeerCall(Struct, frozen=True, gc=False):
    """Another member passes on a request, because it takes us for the leader."""

    peer: MemberId
    call: Call


class PeerReply(Struct, frozen=True, gc=False):
    """The answer to a call of ours."""

    peer: MemberId
    reply: CallReply


class PeerKnown(Struct, frozen=True, gc=False):
    """A handshake told where the API of `peer` listens (for `GET /status`)."""

    peer: MemberId
    api: str | None


class Stalled(Struct, frozen=True, gc=False):
    """Our own process stood still for `gap_us`; the sockets were drained since (P3.7)."""

    gap_us: int


class Staged(Struct, frozen=True, gc=False):
    """A `Stage` is durable; or, without space, not `kept`."""

    index: LogIndex
    number: int
    kept: bool = True


Input = Event | Asked | PeerCall | PeerReply | PeerKnown | Stalled | Staged

PeerFrame = Envelope | Call | CallReply


class ReplicaSettings(Struct, frozen=True):
    """Limits of a replica, each with its unit."""

    ask_timeout_us: int = 2 * SECOND
    """A request without an answer by then ends with `no_quorum` (DESIGN 7, P4.1)."""
    resend_us: int = 300_000
    """A call without an answer is sent again (it may have been lost with a connection)."""
    wait_max_us: int = 300 * SECOND
    """The longest wait for a stepdown's successor."""
    pending_max: int = 50_000
    """More requests than that at once are refused with `too_many`."""
    snapshot_entries: int = 10_000
    snapshot_bytes: int = 8 * 1024 * 1024
    snapshot_piece_bytes: int = 128 * 1024
    """Of a snapshot, encoded or written at a time, by estimate; also read at a time of one that is installed."""
    installing_entries_max: int = 512
    """Entries applied in a turn that had to wait for a snapshot to be in place."""
    steps_max: int = 8
    """Steps of the core within one turn; what is left waits for the next."""
    retry_after_ms: int = 200


class Stage(Struct, frozen=True, gc=False):
    """Piece `number` of the image at `index`: to be made durable when the disk has nothing better to do, then `Staged`.

    An optimization of the batch with that snapshot, which would else hold all pieces: losing it loses nothing.
    """

    index: LogIndex
    number: int
    data: bytes


class Effects(Struct):
    """What follows from a turn, in the order of the fields: frames may leave before the disk (P4.1), then the one
    durable write, then answers, then what watchers see.

    `replaced`: a snapshot replaced the state, and what lies between is not told as transitions. `configuration`: the
    members have changed, so whom to dial.
    """

    send: list[tuple[MemberId, PeerFrame]] = []
    write: Batch | None = None
    stage: Stage | None = None
    answers: list[tuple[int, AnyResult]] = []
    transitions: list[Transition] = []
    replaced: bool = False
    configuration: Configuration | None = None
    traces: list[Trace] = []
    deadline: Instant = NEVER
    fatal: Fatal | None = None


internal_token: Final = -1
"""The token of requests that the replica asks of itself."""
