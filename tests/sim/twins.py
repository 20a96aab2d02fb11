"""Slow twins: every thousand steps, and at the end, everything is derived anew, believing nothing kept along the way.

S3 by comparing logs, S4 and S21 by looking for what is committed on disks, S12 by comparing states at equal indexes and
by applying the whole committed log again; S8, S6 by comparing each core with its disk; L8 by counting what waits.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from tenure.base.ids import LogIndex
from tenure.raft.entries import COMMAND, Image
from tenure.raft.state import Core, Leader
from tests.sim.linearizability import check

if TYPE_CHECKING:
    from tenure.engines.native.replica import Replica
    from tests.sim.host import Host
    from tests.sim.world import World

SNAPSHOTS_REPLAYED: Final = 40
PROMISES_MAX: Final = 5_000
"""What waits for one disk: a leader sends again at most each 100 ms, and a stall lasts 30 s."""
PASSENGERS_LATE_MAX: Final = 500
"""Requests that ran out of time before their round ended, or the term."""
DECISIONS_ASKED_MAX: Final = 100
"""Decisions of a steward in one turn, which the core takes in the next."""


class Twins:
    """The look at everything anew."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.observer = world.observer
        self.hashes: dict[int, str] = {}

    def look(self) -> None:
        """All but what needs the end."""
        hosts = self.world.hosts
        for number, one in enumerate(hosts):
            for other in hosts[:number]:
                self.match(one, other)
        self.held()
        for host in hosts:
            if host.core is not None:
                self.core(host, host.core)
                self.state(host)
                self.bounded(host, host.core)

    def finish(self) -> None:
        """At the end: all anew, a replay of the whole committed log (S12), and the clients' history (S13)."""
        self.look()
        self.replay()
        violations = check(self.observer.history)
        self.observer.require(not violations, "S13", "\n".join(map(str, violations)))

    # --- logs -------------------------------------------------------------------------------------------------------

    def match(self, one: "Host", other: "Host") -> None:
        """S3 by comparison: below the last place where two logs agree, they agree everywhere."""
        low = max(one.disk.base, other.disk.base) + 1
        high = min(one.disk.base + len(one.disk.entries), other.disk.base + len(other.disk.entries))
        if high < low:
            return
        ours = one.disk.entries[low - one.disk.base - 1 : high - one.disk.base]
        theirs = other.disk.entries[low - other.disk.base - 1 : high - other.disk.base]
        agreed = len(ours)
        while agreed and ours[agreed - 1].term != theirs[agreed - 1].term:
            agreed -= 1
        if ours[:agreed] != theirs[:agreed]:
            self.observer.fail("S3", f"{one.name} and {other.name} differ below {low + agreed - 1}, where they agree")

    def held(self) -> None:
        """S4, S21: the last commit is on a majority's disks, and the leader of the newest term has it."""
        top = self.observer.commit_top
        if not top:
            return
        entry = self.observer.committed[top]
        enough, holding = self.observer.holders(self.observer.top_voters, top, entry.term)
        if not enough or not holding:
            self.observer.fail("S21", f"{top}@{entry.term} is committed and held by {holding}")

    def core(self, host: "Host", core: Core) -> None:
        """S6, S8: a core claims to be durable only what its disk holds, and what it has committed is what is."""
        disk, log = host.disk, core.log
        durable = log.durable
        if durable > log.base_index and not disk.covers(durable, log.term_at(durable) or 0):
            self.observer.fail("S8", f"{host.name} takes {durable} for durable, its disk doesn't hold that")
        if disk.number < core.disk.durable:
            self.observer.fail("S8", f"{host.name} takes batch {core.disk.durable} for durable, it is {disk.number}")
        known = self.observer.committed.get(core.commit)
        if core.commit > log.base_index and known is not None and log.term_at(core.commit) != known.term:
            self.observer.fail("S5", f"{host.name} committed {core.commit}@{log.term_at(core.commit)}, not {known}")
        self.observer.seats.look(host, core)
        if isinstance(core.role, Leader) and self.observer.leaders.get(core.term) != host.boot:
            self.observer.fail("S1", f"{host.name} leads t{core.term}, won by {self.observer.leaders.get(core.term)}")

    # --- states -----------------------------------------------------------------------------------------------------

    def state(self, host: "Host") -> None:
        """S12 between members: equal at equal index."""
        assert host.replica is not None
        if host.replica.witness:
            return  # P8: it holds no state
        applied, found = host.replica.applied, host.machine.hash()
        known = self.hashes.setdefault(applied, found)
        if known != found:
            self.observer.fail("S12", f"{host.name} has another state at {applied}")

    def replay(self) -> None:
        """The committed log, applied from its start by a machine that never crashed, gives every member's state (S12),
        and the snapshots that were taken (S11).
        """
        machine = self.world.founded_machine()
        committed, wanted = self.observer.committed, self.hashes
        taken = sorted(self.observer.snapshots)
        some = set(taken[:: len(taken) // SNAPSHOTS_REPLAYED + 1])
        for index in range(1, self.observer.commit_top + 1):
            entry = committed.get(index)
            if entry is None:
                self.observer.fail("S5", f"nobody has committed {index}, but {self.observer.commit_top}")
            if entry.kind == COMMAND:
                machine.apply(LogIndex(index), entry.term, entry.data)
            if index in wanted and machine.hash() != wanted[index]:
                self.observer.fail("S12", f"the state at {index} is not what its log gives")
            if index in some and Image.of(machine.snapshot()).crc != self.observer.snapshots[index]:
                self.observer.fail("S11", f"the snapshot at {index} is not what its log gives")

    # --- what waits -------------------------------------------------------------------------------------------------

    def bounded(self, host: "Host", core: Core) -> None:
        """L8: every queue stays within its limit."""
        assert host.replica is not None
        settings, desk = core.settings, host.replica._desk
        members = len(self.world.hosts)
        waiting = (
            ("requests", len(desk.book.ordinary), host.replica.limits.pending_max + 2),
            ("notes", len(core.notes), members),
            ("links", len(core.links), members),
            ("promises", len(core.disk.promises) + len(core.disk.late), PROMISES_MAX),
            ("uncommitted", core.log.last_index - core.commit, settings.proposals_uncommitted_max + 2),
            *self._beside(host.replica),
            *self._led(core),
        )
        self._check(host, waiting)

    def _beside(self, replica: "Replica") -> Iterable[tuple[str, int, int]]:
        """What is kept beside requests, sessions and entries goes with them: nothing is left behind."""
        desk, steward, core = replica._desk, replica.steward, replica.raft._core
        rounds, requests = desk.rounds, len(desk.book)
        passengers = sum(map(len, rounds._open.values())) + sum(len(keys) for _, keys in rounds._confirmed)
        yield "passengers", passengers + len(rounds.gathering) + len(rounds.ready), requests + PASSENGERS_LATE_MAX
        yield "calls of others", len(desk.forwarding._calls), requests
        yield "proposals", len(desk._by_index), core.settings.proposals_uncommitted_max + 2
        yield "proposals that are applied", sum(index <= replica.applied for index in desk._by_index), 0
        yield "decisions", len(replica._decisions), core.log.last_index - replica.applied + DECISIONS_ASKED_MAX
        if steward is not None:
            yield "slots", len(steward._slots), len(replica.machine.state.sessions)

    def _led(self, core: Core) -> Iterable[tuple[str, int, int]]:
        leader, settings = core.role, core.settings
        if not isinstance(leader, Leader):
            return
        yield "rounds", len(leader.rounds), settings.rounds_inflight_max
        yield "reads", len(leader.reads_waiting), settings.reads_waiting_max
        for one in leader.progress.values():
            yield "appends in flight", len(one.inflight), settings.inflight_appends_max

    def _check(self, host: "Host", waiting: Iterable[tuple[str, int, int]]) -> None:
        for what, count, limit in waiting:
            if count > limit:
                self.observer.fail("L8", f"{host.name} has {count} {what}, at most {limit} may wait")
