"""What the driver must do after a step, in the order of the fields of `Ready`."""

from typing import Literal

from msgspec import Struct

from tenure.base.ids import BatchNumber, ConsensusTerm, LogIndex, MemberId
from tenure.base.instants import NEVER, Instant
from tenure.raft.entries import Configuration, Entry, HardState, Snapshot
from tenure.raft.membership import Refusal
from tenure.raft.messages import Envelope


class Batch(Struct, frozen=True, gc=False):
    """One durable write: one transaction, one sync. At most one is in flight (DESIGN 4).

    The store does, in this order: `snapshot` (with `install` every entry goes; else only those below `compact_to`),
    delete entries ≥ `truncate_from`, insert `entries`, then hard state, `known_batches`, and the batch's number with
    its CRC (P1.3). When it is durable the driver sends `send_after_persist` and then steps `Persisted(number)`.
    """

    number: BatchNumber
    hard_state: HardState | None = None
    snapshot: Snapshot | None = None
    install: bool = False
    compact_to: LogIndex | None = None
    truncate_from: LogIndex | None = None
    entries: tuple[Entry, ...] = ()
    known_batches: dict[MemberId, BatchNumber] | None = None
    send_after_persist: tuple[Envelope, ...] = ()


class Accepted(Struct, frozen=True, gc=False):
    """Proposal `token` stands in the log at (`index`, `term`); it is committed when just that entry is."""

    token: int
    index: LogIndex
    term: ConsensusTerm


class Refused(Struct, frozen=True, gc=False):
    """Proposal or read `token` was not taken and has no effect. `leader`: whom to ask, if known."""

    token: int
    reason: Literal["not_leader", "wrong_term", "not_serving", "transferring", "overloaded", "leader_lost"]
    leader: MemberId | None


class ReadState(Struct, frozen=True, gc=False):
    """Read `token` may be answered from a state applied up to `index` or further."""

    token: int
    index: LogIndex


class TransferEnded(Struct, frozen=True, gc=False):
    """How a transfer went; `done` only when its target stands or leads above us. `leader`: who does, if we know."""

    token: int
    outcome: Literal["done", "timeout", "no_target", "not_leader", "busy"]
    leader: MemberId | None


class ChangeEnded(Struct, frozen=True, gc=False):
    """A membership request that put nothing into the log: refused with its reason; `leads`: the leader itself is to
    leave the quorum, so it must hand over first (P7.3); or `done`. `configuration` is the one in force, or with a dry
    run the next one.
    """

    token: int
    outcome: Literal["done", "refused", "leads"]
    configuration: Configuration
    refusal: Refusal | None = None


class Trace(Struct, frozen=True, gc=False):
    """A decision with its reason: one vocabulary for logs, metrics, timeline and golden scripts.

    `what` is one of the names listed in `docs/architecture.md`; `detail` holds plain values only.
    """

    what: str
    detail: dict[str, int | str | bool | None]


class Fatal(Struct, frozen=True, gc=False):
    """The member must stop taking part (P1.3, P10)."""

    reason: Literal["rolled_back", "forked", "unknown_feature", "removed"]
    text: str


class Ready(Struct, frozen=True, gc=False):
    """Everything that follows from a step, in the order in which the driver must act."""

    send: tuple[Envelope, ...] = ()
    write: Batch | None = None
    accepted: tuple[Accepted, ...] = ()
    refused: tuple[Refused, ...] = ()
    committed: tuple[Entry | Snapshot, ...] = ()
    reads: tuple[ReadState, ...] = ()
    transfers: tuple[TransferEnded, ...] = ()
    changes: tuple[ChangeEnded, ...] = ()
    configuration: Configuration | None = None
    """The configuration in force, when this step changed it: whom to dial."""
    snapshot_wanted: bool = False
    """A witness waits for a newer snapshot: take one now (P8)."""
    traces: tuple[Trace, ...] = ()
    deadline: Instant = NEVER
    fatal: Fatal | None = None
