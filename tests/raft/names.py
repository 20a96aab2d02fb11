"""How scripts and failures write members, messages and entries: short, with names instead of ids."""

from collections.abc import Iterable

from msgspec import Struct

from tenure.base.ids import MemberId
from tenure.leadership import commands
from tenure.leadership.engine import AnyRequest, AnyResult, Keepalive, Kept, Refused, Release, Stepdown, Stepped
from tenure.raft.entries import CONFIGURATION, FEATURE, NOOP, Configuration, Entry, Snapshot, configuration_of
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
    Removed,
    SnapshotChunk,
    SnapshotChunkReply,
    TimeoutNow,
    Vote,
    VoteReply,
    WantSnapshot,
)
from tenure.wire.frames import Call, CallReply


class Parcel(Struct, frozen=True):
    """What travels and is no message of the core: between a node and a member, or a request passed on."""

    sender: str
    to: str
    content: AnyRequest | AnyResult | Call | CallReply
    tag: int = 0


Mail = Envelope | Parcel


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
        return f"snapshot {place(item.index, item.term)} {_state(item)}"
    match item.kind:
        case 0:
            what = _command(item.data)
        case kind if kind == NOOP:
            what = "no-op"
        case kind if kind == CONFIGURATION:
            what = seats(configuration_of(item))
        case kind if kind == FEATURE:
            what = f"feature {item.data.decode()}"
        case _:
            what = f"kind {item.kind}"
    return f"{place(item.index, item.term)} {what}"


def seats(configuration: Configuration) -> str:
    """A configuration: voters by name, others with their role."""
    marks = {"voter": "", "witness": "(witness)", "observer": "(observer)"}
    return "{" + " ".join(name_of(seat.id) + marks[seat.role] for seat in configuration.seats) + "}"


def _command(data: bytes) -> str:
    """A command of the state machine by its kind; scripts of the core alone propose plain words."""
    if data.isascii():
        return data.decode()
    return type(commands.decode(data).body).__name__


def _state(snapshot: Snapshot) -> str:
    data = b"".join(snapshot.image.pieces)
    return repr(data.decode()) if data.isascii() else f"of {len(data)} bytes"


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
    content: Heartbeat
    | HeartbeatReply
    | DurableProbe
    | DurableProbeReply
    | TimeoutNow
    | Found
    | HigherTerm
    | Removed
    | WantSnapshot,
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
        case WantSnapshot():
            return f"WantSnapshot t{content.term} above {content.above}"
        case Removed():
            return f"Removed at {content.index}"


def way(mail: Mail) -> tuple[str, str]:
    """From whom to whom."""
    if isinstance(mail, Parcel):
        return mail.sender, mail.to
    return name_of(mail.sender), name_of(mail.to)


def inner(mail: Mail) -> AnyMessage | AnyRequest | AnyResult:
    """What is in it; a request passed on is the request."""
    if isinstance(mail, Envelope):
        return mail.message
    match mail.content:
        case Call():
            return mail.content.request
        case CallReply():
            return mail.content.result
        case _:
            return mail.content


def kind(mail: Mail) -> str:
    """The type by which scripts choose it."""
    return type(inner(mail)).__name__


def letter(mail: Mail) -> str:
    """It with its way."""
    sender, to = way(mail)
    if isinstance(mail, Envelope):
        return f"{sender} → {to}  {message(mail.message)}"
    passed = " (passed on)" if isinstance(mail.content, Call | CallReply) else ""
    return f"{sender} → {to}  {_parcel(mail)}{passed}"


def _parcel(mail: Parcel) -> str:
    match inner(mail):
        case Keepalive() as said:
            return f"Keepalive #{said.number}"
        case Kept() as said:
            named = ", ".join(f"{lease.election}@{lease.term}" for lease in said.leases) or "no lease"
            demands = "".join(f", asked to hand over {one.election}@{one.term}" for one in said.demands)
            return f"Kept #{said.number}: {named}{demands}"
        case Refused() as said:
            return f"Refused {said.code}"
        case Release() as said:
            return f"Release {said.election}@{said.term}"
        case Stepdown() as said:
            return f"Stepdown {said.election}" + (f" to {said.successor}" if said.successor else "")
        case Stepped() as said:
            return f"Stepped {said.state} from {said.from_} to {said.to}"
        case said:
            return type(said).__name__
