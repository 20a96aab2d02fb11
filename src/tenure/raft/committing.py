"""What is committed is handed out once, in order."""

from tenure.base.ids import LogIndex
from tenure.raft import configurations, versions
from tenure.raft.entries import CONFIGURATION, FEATURE, Entry, Snapshot
from tenure.raft.state import Core, Leader


def hand_out(core: Core) -> tuple[tuple[Entry | Snapshot, ...], bool]:
    """Committed entries in order; an installed snapshot takes the place of all below it (P4.6)."""
    out: list[Entry | Snapshot] = []
    if core.fatal is not None:
        return (), False
    if core.installed is not None:
        out.append(core.installed)
        core.applied_to = core.installed.index
        core.installed = None
    end = min(core.commit, LogIndex(core.applied_to + core.settings.committed_per_step_max))
    if end > core.applied_to:
        entries = core.log.between(LogIndex(core.applied_to + 1), end)
        core.applied_to = end
        out.extend(entries[: _note_committed(core, entries)])
    return tuple(out), core.commit > core.applied_to


def _note_committed(core: Core, entries: tuple[Entry, ...]) -> int:
    """What is committed besides commands takes effect. Returns how many of the entries may be handed out: none behind a
    version that this member doesn't speak (P10).
    """
    leader = core.role if isinstance(core.role, Leader) else None
    for place, entry in enumerate(entries):
        if leader is not None:
            leader.uncommitted_bytes -= len(entry.data)
        if entry.kind == CONFIGURATION:
            configurations.committed(core, entry)
        elif entry.kind == FEATURE:
            core.feature = int(entry.data)
            core.trace("feature", version=core.feature)
            if not versions.speaks(core, core.feature):
                return place
    if leader is not None and core.commit == core.log.last_index:
        leader.uncommitted_bytes = 0
    return len(entries)
