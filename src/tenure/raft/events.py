"""What happens to a member: the inputs of `Raft.step`, a closed union."""

from msgspec import Struct

from tenure.base.ids import BatchNumber, Boot, ConsensusTerm, LogIndex, MemberId
from tenure.base.instants import NEVER, Instant
from tenure.raft.entries import Image
from tenure.raft.membership import Wish
from tenure.raft.messages import Envelope, Evidence


class Received(Struct, frozen=True, gc=False):
    """A frame came from a peer (its lineage already checked by the handshake, and here again)."""

    envelope: Envelope


class Propose(Struct, frozen=True, gc=False):
    """Append this command. `expected_term`: refuse unless we lead in just that term (P3.5)."""

    token: int
    data: bytes
    expected_term: ConsensusTerm | None = None


class ReadIndex(Struct, frozen=True, gc=False):
    """Ask for a read index by a round whose heartbeats are created after this event (P3.3)."""

    token: int


class Persisted(Struct, frozen=True, gc=False):
    """Batch `batch` is durable; it took `sync_us` microseconds from submission."""

    batch: BatchNumber
    sync_us: int


class LinkUp(Struct, frozen=True, gc=False):
    """A connection to `peer` stands, after the handshake. `told`: the highest batch number of ours that the peer knows
    (P1.3). `speaks`: the newest feature version that it knows, `feature`: the one that its cluster speaks (P10).
    """

    peer: MemberId
    boot: Boot
    told: BatchNumber
    speaks: int
    feature: int = 1


class LinkLost(Struct, frozen=True, gc=False):
    """The last live connection to `peer` is gone, behind all its frames (P5.4). `closing`: the peer had said so."""

    peer: MemberId
    boot: Boot
    evidence: Evidence
    closing: bool = False


class RttSample(Struct, frozen=True, gc=False):
    """One application-to-application round trip with `peer`."""

    peer: MemberId
    rtt_us: int


class Lateness(Struct, frozen=True, gc=False):
    """Our own loop was `late_us` behind its timer (P6.3)."""

    late_us: int


class Transfer(Struct, frozen=True, gc=False):
    """Hand the consensus leadership over, to `target` or to the best ranked; the outcome is a `TransferEnded`."""

    token: int
    target: MemberId | None


class ChangeMembership(Struct, frozen=True, gc=False):
    """Take the next step towards `wish` (P7). The answer is `Accepted`, `Refused` or a `ChangeEnded`. `expected_index`:
    refuse unless the configuration in force has just that index. `dry_run`: only say what would be done. `heals`: the
    autopilot's, on its way back to as many voters as the operator wanted. `until`: nothing is begun after that, for
    whoever asked has been told by then that it wasn't.
    """

    token: int
    wish: Wish
    expected_index: LogIndex | None = None
    dry_run: bool = False
    heals: bool = False
    until: Instant = NEVER


class Resign(Struct, frozen=True, gc=False):
    """The process is about to stop: a leader says so (`resigned`, P5.5) and leads no more."""


class TakeSnapshot(Struct, frozen=True, gc=False):
    """The state machine's state at the applied `index`, to be made durable; then the log below it is cut. `feature`:
    the cluster's version there.
    """

    index: LogIndex
    feature: int
    image: Image


Event = (
    Received
    | Propose
    | ReadIndex
    | Persisted
    | LinkUp
    | LinkLost
    | RttSample
    | Lateness
    | Transfer
    | ChangeMembership
    | Resign
    | TakeSnapshot
)
