"""What members say to each other: one type per message (toydb), tagged arrays on the wire.

`term` is always the sender's consensus term unless the field says otherwise. `boot` and `attempt` tie an answer to the
very request that it answers (P4.2): an answer to an earlier life or an earlier try counts for nothing.
"""

from typing import Literal

from msgspec import Struct

from tenure.base.ids import BatchNumber, Boot, ConsensusTerm, LogIndex, MemberId, Nonce
from tenure.raft.entries import Configuration, Entry

Evidence = Literal["fin", "refused", "timeout", "resigned"]


class Message(Struct, frozen=True, array_like=True, tag=True, gc=False):
    """Base of all messages."""


class PreVote(Message, frozen=True, tag="pv"):
    """Would you vote for me in `term`? (thesis §9.6). `term` is the term that the sender would campaign in. `voters`:
    who counts for the sender, by the configuration at `members`; from a program that doesn't say it, nobody.
    """

    term: ConsensusTerm
    last_index: LogIndex
    last_term: ConsensusTerm
    boot: Boot
    attempt: int
    members: LogIndex = LogIndex(0)
    voters: tuple[MemberId, ...] = ()


class PreVoteReply(Message, frozen=True, tag="pvr"):
    """`term` echoes the asked term if granted, else it is the voter's own."""

    term: ConsensusTerm
    granted: bool
    reason: str
    boot: Boot
    attempt: int


class Vote(Message, frozen=True, tag="v"):
    """RequestVote. `transfer`: the leader itself wants it, so leader stickiness does not apply (P5.3, P5.8). `members`
    and `voters` as in `PreVote`.
    """

    term: ConsensusTerm
    last_index: LogIndex
    last_term: ConsensusTerm
    boot: Boot
    attempt: int
    transfer: bool
    members: LogIndex = LogIndex(0)
    voters: tuple[MemberId, ...] = ()


class VoteReply(Message, frozen=True, tag="vr"):
    """Grants leave after the disk (P4.8); they carry the voter's last log id (P5.7) and its batch (P1.3)."""

    term: ConsensusTerm
    granted: bool
    reason: str
    boot: Boot
    attempt: int
    last_index: LogIndex
    last_term: ConsensusTerm
    batch: BatchNumber


class Append(Message, frozen=True, tag="a"):
    """AppendEntries. Entries may leave before the leader's own disk (P4.3)."""

    term: ConsensusTerm
    prev_index: LogIndex
    prev_term: ConsensusTerm
    commit: LogIndex
    entries: tuple[Entry, ...]


class AppendReply(Message, frozen=True, tag="ar"):
    """Everything up to `match` is durable here; `term` is the one in which it was accepted (P4.5)."""

    term: ConsensusTerm
    match: LogIndex
    batch: BatchNumber


class AppendReject(Message, frozen=True, tag="aj"):
    """The entry at `prev_index` doesn't match. The leader may try at or below (`hint_index`, `hint_term`)."""

    term: ConsensusTerm
    prev_index: LogIndex
    hint_index: LogIndex
    hint_term: ConsensusTerm


class Heartbeat(Message, frozen=True, tag="h"):
    """Sign of life and read round in one; `number` is never reused within (boot, term).

    `commit` is already clamped to what the receiver is known to hold. `ranks` orders who should stand first when this
    leader is lost (P5), `batches` spreads the durable batch numbers (P1.3). Without `answer` nobody waits for the
    reply, and none is sent. `committed` is all that the leader knows to be committed, `echoes` the last number that
    each member has answered: from them follows how old a state is (`freshness`). Not every heartbeat tells them.
    """

    term: ConsensusTerm
    boot: Boot
    number: int
    commit: LogIndex
    interval_us: int
    lateness_us: int
    ranks: tuple[MemberId, ...]
    batches: dict[MemberId, BatchNumber]
    answer: bool = True
    committed: LogIndex = LogIndex(0)
    echoes: dict[MemberId, int] = {}


class HeartbeatReply(Message, frozen=True, tag="hr"):
    """`batch` is durable; `speaks` is the newest feature version that the member knows (P10). `unheard`: members with a
    seat of whom no connection stands here (P7.4).
    """

    term: ConsensusTerm
    boot: Boot
    number: int
    batch: BatchNumber
    speaks: int
    unheard: tuple[MemberId, ...] = ()


class DurableProbe(Message, frozen=True, tag="p"):
    """Asks for one durable write of nothing: does your disk live? (P4.1)"""

    term: ConsensusTerm
    number: int


class DurableProbeReply(Message, frozen=True, tag="pr"):
    """Left after the write."""

    term: ConsensusTerm
    number: int
    batch: BatchNumber


class SnapshotChunk(Message, frozen=True, tag="s"):
    """A piece of a snapshot, `data` at `offset` of `total` bytes whose CRC is `crc`. Without data: is it all there?"""

    term: ConsensusTerm
    snapshot_index: LogIndex
    snapshot_term: ConsensusTerm
    configuration: Configuration
    feature: int
    offset: int
    total: int
    crc: int
    data: bytes


class SnapshotChunkReply(Message, frozen=True, tag="sr"):
    """`received` bytes of it are here, in order (in memory). The end is acknowledged by an `AppendReply`, after the
    disk.
    """

    term: ConsensusTerm
    snapshot_index: LogIndex
    received: int


class TimeoutNow(Message, frozen=True, tag="t"):
    """Campaign at once (thesis §3.10); obeyed only by a follower of just this leader in just this term."""

    term: ConsensusTerm


class LeaderLost(Message, frozen=True, tag="ll"):
    """P5.1: the sender no longer hears `leader`; counts as its pre-vote for any candidate with a log as fresh."""

    term: ConsensusTerm
    leader: MemberId
    leader_boot: Boot
    boot: Boot
    epoch: int
    heard_number: int
    last_index: LogIndex
    last_term: ConsensusTerm
    evidence: Evidence


class Found(Message, frozen=True, tag="f"):
    """P5.2: the sender hears `leader` again; its notes up to `epoch` are void."""

    term: ConsensusTerm
    leader: MemberId
    boot: Boot
    epoch: int


class HigherTerm(Message, frozen=True, tag="ht"):
    """P5.8: answer to a leader's frame of a lower term, at most once per term.

    `leader`: whom the sender hears leading `term`; then the receiver was deposed and only follows (ADR 0006). None: the
    sender is stuck above a living leader, which outbids it.
    """

    term: ConsensusTerm
    leader: MemberId | None


class WantSnapshot(Message, frozen=True, tag="ws"):
    """P8: a witness holds more entries than it should and asks for a snapshot above index `above`."""

    term: ConsensusTerm
    above: int


class Removed(Message, frozen=True, tag="rm"):
    """The receiver has left the cluster with the committed configuration at `index` (P7)."""

    term: ConsensusTerm
    index: LogIndex


AnyMessage = (
    PreVote
    | PreVoteReply
    | Vote
    | VoteReply
    | Append
    | AppendReply
    | AppendReject
    | Heartbeat
    | HeartbeatReply
    | DurableProbe
    | DurableProbeReply
    | SnapshotChunk
    | SnapshotChunkReply
    | TimeoutNow
    | LeaderLost
    | Found
    | HigherTerm
    | WantSnapshot
    | Removed
)


class Envelope(Struct, frozen=True, array_like=True, tag="e", gc=False):
    """A message on its way. The lineage is the newest nonce of the sender's (P1.3)."""

    sender: MemberId
    to: MemberId
    lineage: Nonce
    message: AnyMessage
