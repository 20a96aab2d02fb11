"""Configurations in the log (P7.1): in force at once on whoever has the entry, rolled back with it; who is removed is
told when that is committed.
"""

from msgspec import DecodeError

from tenure.base.ids import LogIndex, MemberId
from tenure.base.instants import Instant
from tenure.raft.entries import CONFIGURATION, Configuration, Entry, configuration_of
from tenure.raft.messages import Removed
from tenure.raft.progress import Progress
from tenure.raft.ready import Fatal
from tenure.raft.state import Core, Leader


def appended(core: Core, entries: tuple[Entry, ...]) -> None:
    """A follower has taken entries: a configuration among them is in force from now on."""
    for entry in entries:
        if entry.kind != CONFIGURATION:
            continue
        try:
            take(core, configuration_of(entry))
        except DecodeError as error:
            text = f"entry {entry.index} is no configuration that this version knows: {error}"
            core.fatal = Fatal("unknown_feature", text)
            return


def take(core: Core, then: Configuration) -> None:
    """A configuration stands in the log: it is in force, committed or not."""
    core.configurations.append(then)
    core.configure()
    leader = core.role
    if isinstance(leader, Leader):
        _follow_seats(core, leader)


def _follow_seats(core: Core, leader: Leader) -> None:
    """Whom the leader serves: progress of those who came begins, of those who left ends."""
    for peer in core.peers:
        if peer not in leader.progress:
            one = Progress(LogIndex(0), LogIndex(core.log.last_index + 1), heard_at=Instant(0), moved_at=core.now)
            link = core.links.get(peer)
            if link is not None:
                one.boot, one.speaks = link.boot, link.speaks
            leader.progress[peer] = one
    for peer in [peer for peer in leader.progress if peer not in core.peers]:
        del leader.progress[peer]


def truncated(core: Core, start: LogIndex) -> None:
    """Entries from `start` on are gone: so are the configurations in them (P7.1)."""
    if core.configurations[-1].index >= start:
        core.configurations = [one for one in core.configurations if one.index < start]
        core.trace("configuration_rolled_back", start=start, index=core.configurations[-1].index)
        core.configure()


def replaced(core: Core, configuration: Configuration) -> None:
    """A snapshot was installed in place of the whole log."""
    core.configurations = [configuration]
    core.configure()
    _leave_if_removed(core, configuration)


def as_of(core: Core, index: LogIndex) -> Configuration:
    """The configuration at an applied index: what a snapshot there must hold (P7.1). Older ones are forgotten."""
    older = [one for one in core.configurations if one.index <= index]
    core.configurations = [older[-1], *(one for one in core.configurations if one.index > index)]
    return older[-1]


def committed(core: Core, entry: Entry) -> None:
    """A change is committed: who left is told, and leaves."""
    configuration = configuration_of(entry)
    if isinstance(core.role, Leader):
        for member in configuration.removed:  # those who left before, too: they may have been away then
            if member in core.links:
                core.say(member, Removed(core.term, entry.index))
    _leave_if_removed(core, configuration)


def farewell(core: Core, member: MemberId) -> Removed | None:
    """What a member that is back must hear if it has left for certain: a removal that may be rolled back is none."""
    known = [one for one in core.configurations if one.index <= core.commit]
    if known and member in known[-1].removed:
        return Removed(core.term, known[-1].index)
    return None


def _leave_if_removed(core: Core, configuration: Configuration) -> None:
    if core.me in configuration.removed:
        _leave(core, configuration.index)


def on_removed(core: Core, message: Removed) -> None:
    """A member of the cluster says that we are none any more. What it says is committed."""
    if message.index > core.configuration.index or core.configuration.seat(core.me) is None:
        _leave(core, message.index)


def _leave(core: Core, index: LogIndex) -> None:
    if core.fatal is None:
        core.trace("removed", index=index)
        core.fatal = Fatal(
            "removed",
            "this member was removed from the cluster. To take part again it needs an empty data "
            "directory and `tenure serve --join`: it comes back under a new id",
        )
