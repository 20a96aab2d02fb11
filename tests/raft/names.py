"""How scripts and failures write members, messages and entries: short, with names instead of ids."""

from collections.abc import Iterable

from tenure.base.ids import MemberId
from tenure.raft.entries import CONFIGURATION, FEATURE, NOOP, Entry, Snapshot
from tenure.raft.messages import (
    AnyMessage,
    Append,
    AppendReject,
    AppendReply,
    DurableProbe,
    DurableProbeReply,
    Envelope,
    Found,
    Heartbeat,
    HeartbeatReply,
    HigherTerm,
    LeaderLost,
    PreVote,
    PreVoteReply,
    SnapshotChunk,
    SnapshotChunkReply,
    TimeoutNow,
    Vote,
    VoteReply,
)


def member_id(name: str) -> MemberId:
    """`m3` is member 0000000000000003."""
    return MemberId(f"{int(name[1:]):016x}")


def name_of(member: str | None) -> str:
    """The name of an id."""
    return "nobody" if member is None else f"m{int(member, 16)}"


def place(index: int, term: int) -> str:
    """A place in a log: index@term."""
    return f"{index}@{term}"


def entry(item: Entry | Snapshot) -> str:
    """One entry: its place and what it holds."""
    if isinstance(item, Snapshot):
        return f"snapshot {place(item.index, item.term)} {item.data.decode(errors='replace')!r}"
    match item.kind:
        case 0:
            what = item.data.decode(errors="replace")
        case kind if kind == NOOP:
            what = "no-op"
        case kind if kind == CONFIGURATION:
            what = "configuration"
        case kind if kind == FEATURE:
            what = f"feature {item.data.decode()}"
        case _:
            what = f"kind {item.kind}"
    return f"{place(item.index, item.term)} {what}"


def entries(items: Iterable[Entry]) -> str:
    """Several entries in brackets; of many only the first and the last few."""
    shown = [entry(item) for item in items]
    if len(shown) > 12:
        shown = [*shown[:3], f"… {len(shown) - 6} more …", *shown[-3:]]
    return "[" + ", ".join(shown) + "]"


def verdict(granted: bool, reason: str) -> str:
    """A vote's answer."""
    return "yes" if granted else f"no ({reason})"


def message(content: AnyMessage) -> str:
    """What a message says, without what is the same in all of them."""
    match content:
        case PreVote():
            return f"PreVote t{content.term} log {place(content.last_index, content.last_term)} try {content.attempt}"
        case PreVoteReply():
            said = verdict(content.granted, content.reason)
            return f"PreVoteReply {said} t{content.term} try {content.attempt}"
        case Vote():
            mark = " transfer" if content.transfer else ""
            log = place(content.last_index, content.last_term)
            return f"Vote t{content.term} log {log} try {content.attempt}{mark}"
        case VoteReply():
            said = verdict(content.granted, content.reason)
            log = place(content.last_index, content.last_term)
            return f"VoteReply {said} t{content.term} try {content.attempt} log {log} batch {content.batch}"
        case Append():
            after = place(content.prev_index, content.prev_term)
            return f"Append t{content.term} after {after} {entries(content.entries)} commit {content.commit}"
        case AppendReply():
            return f"AppendReply t{content.term} match {content.match} batch {content.batch}"
        case AppendReject():
            hint = place(content.hint_index, content.hint_term)
            return f"AppendReject t{content.term} at {content.prev_index} hint {hint}"
        case SnapshotChunk():
            end = content.offset + len(content.data)
            at = place(content.snapshot_index, content.snapshot_term)
            return f"SnapshotChunk t{content.term} {at} bytes {content.offset}-{end} of {content.total}"
        case SnapshotChunkReply():
            return f"SnapshotChunkReply t{content.term} {content.snapshot_index} received {content.received}"
        case LeaderLost():
            who = f"{name_of(content.leader)} heard #{content.heard_number}"
            log = place(content.last_index, content.last_term)
            return f"LeaderLost t{content.term} {who} epoch {content.epoch} log {log} {content.evidence}"
        case _:
            return _sign(content)


def _sign(
    content: Heartbeat | HeartbeatReply | DurableProbe | DurableProbeReply | TimeoutNow | Found | HigherTerm,
) -> str:
    match content:
        case Heartbeat():
            ranks = " ".join(name_of(member) for member in content.ranks)
            return f"Heartbeat t{content.term} #{content.number} commit {content.commit} ranks {ranks}".rstrip()
        case HeartbeatReply():
            return f"HeartbeatReply t{content.term} #{content.number} batch {content.batch}"
        case DurableProbe():
            return f"DurableProbe t{content.term} #{content.number}"
        case DurableProbeReply():
            return f"DurableProbeReply t{content.term} #{content.number}"
        case TimeoutNow():
            return f"TimeoutNow t{content.term}"
        case Found():
            return f"Found t{content.term} {name_of(content.leader)} epoch {content.epoch}"
        case HigherTerm():
            return f"HigherTerm t{content.term} leader {name_of(content.leader)}"


def envelope(sent: Envelope) -> str:
    """A message with its way."""
    return f"{name_of(sent.sender)} → {name_of(sent.to)}  {message(sent.message)}"
