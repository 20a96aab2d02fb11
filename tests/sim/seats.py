"""Who belongs to the cluster, as the observer sees it: S9 and S10."""

from itertools import pairwise
from typing import TYPE_CHECKING

from tenure.base.ids import MemberId
from tenure.raft.entries import CONFIGURATION, Configuration, configuration_of
from tenure.raft.state import Core, Leader
from tests.sim.host import Host

if TYPE_CHECKING:
    from tests.sim.observer import Observer
    from tests.sim.world import World


class Seats:
    """The last committed configuration, and what is wrong with those that aren't."""

    def __init__(self, world: "World", observer: "Observer") -> None:
        self.world = world
        self.observer = observer
        self.configuration: Configuration
        self.voters: list[Host] = []
        self.seated: list[Host] = []
        self.removed: set[MemberId] = set()
        self.hopeless: list[Configuration] = []
        """Begun with a majority whose disks were lost, while its answers were under way."""

    def begin(self, configuration: Configuration) -> None:
        """The founded one."""
        self._take(configuration)

    def _take(self, configuration: Configuration) -> None:
        by_id = self.world.by_id
        self.configuration = configuration
        self.voters = [by_id[member] for member in configuration.voters()]
        self.seated = [by_id[member] for member in configuration.members()]

    def committed(self, then: Configuration) -> None:
        """S9: the next one. Its majorities meet those of the one before: at most one voter came or went."""
        before = self.configuration
        came = set(then.voters()) ^ set(before.voters())
        if len(came) > 1:
            self.observer.fail("S9", f"{before} → {then}: more than one voter came or went")
        if then.index <= before.index:
            self.observer.fail("S9", f"{then} is committed after {before}")
        back = self.removed & set(then.members())
        if back:
            self.observer.fail("S22", f"{back} were removed and are back in {then}")
        self.removed.update(then.removed)
        self._take(then)
        self.world.seen["members changed"] += 1
        self.world.tell("cluster", "is now " + ", ".join(f"{seat.name} {seat.role}" for seat in then.seats))

    def was_removed(self, host: Host) -> bool:
        """Whether its removal is committed."""
        return host.id in self.removed

    def changed(self, host: Host, core: Core) -> None:
        """S9: a configuration came into force at a member, by an entry, or by its going. Majorities of those that
        follow each other in a log meet, committed or not; and a leader appends none before the last is committed.
        """
        before, now = host.seen_configuration, core.configuration
        host.seen_configuration = now
        for one, other in pairwise(core.configurations):
            if len(set(one.voters()) ^ set(other.voters())) > 1:
                self.observer.fail("S9", f"{host.name} holds {one}, then {other}: more than one voter came or went")
        leader = core.role
        if type(leader) is Leader and len(core.configurations) > 1 and core.commit < core.configurations[-2].index:
            text = f"{host.name} leads, commit is {core.commit}, and it changes {core.configurations[-2]} to {now}"
            self.observer.fail("S9", text)
        if type(leader) is Leader and before is not None and now.index > before.index and core.commit < leader.noop:
            self.observer.fail("S9", f"{host.name} changes the members before its no-op is committed: {now}")
        if type(leader) is Leader and before is not None and now.index > max(before.index, core.commit):
            self.begun(host, core, before, now)

    def begun(self, host: Host, core: Core, before: Configuration, now: Configuration) -> None:
        """P7, ADR 0033: nobody begins a change of who counts that can never commit: a majority of them has answered
        since it was asked for. Who has answered, and died with its disk while the answer was under way, counts, too.
        """
        if set(now.voters()) == set(before.voters()):
            return
        voters = [self.world.by_id[voter] for voter in now.voters()]
        lost = [voter for voter in voters if voter.lost]
        if 2 * len(lost) < len(voters):
            return
        silent = [
            voter.name
            for voter in lost
            if voter.id not in core.links or (voter.replica is None and voter.died_at < host.change_asked_at)
        ]
        if 2 * len(silent) >= len(voters):
            self.observer.fail("P7", f"{host.name} begins {now}, though {silent} are gone and have not answered")
        self.world.seen["hopeless change"] += 1
        self.hopeless.append(now)

    def stranded(self) -> bool:
        """Whether somebody goes by such a change: then nobody may ever lead again, and forced recovery must help."""
        return any(configuration in self.hopeless for configuration in self.in_force())

    def look(self, host: Host, core: Core) -> None:
        """S9, S10 anew: what is in force is the last in the log; at most one in it isn't committed; who counts are its
        voters; a witness serves nobody.
        """
        log, committed = core.log, self.observer.committed
        held = log.between(log.first, log.last_index) if log.last_index > log.base_index else ()
        entries = [entry for entry in held if entry.kind == CONFIGURATION]
        if entries and configuration_of(entries[-1]) != core.configuration:
            self.observer.fail("S9", f"{host.name} goes by {core.configuration}, its log says {entries[-1]}")
        if tuple(core.voters) != core.configuration.voters():
            self.observer.fail("S10", f"{host.name} counts {core.voters} of {core.configuration}")
        doubtful = [entry for entry in entries if committed.get(entry.index) != entry]
        if len(doubtful) > 1:
            self.observer.fail("S9", f"{host.name} holds two changes that aren't committed: {doubtful}")
        if host.replica is not None and host.replica.witness and (host.is_serving or host.replica.steward is not None):
            self.observer.fail("S10", f"{host.name} is a witness and serves")

    def elected(self, host: Host, core: Core) -> None:
        """S10: elected by a majority of those who count in its configuration, each of whom has durably said so."""
        votes = [voter for voter in core.voters if self.world.by_id[voter].voted.get(core.term) == host.id]
        if 2 * len(votes) <= len(core.voters):
            self.observer.fail("S10", f"{host.name} leads t{core.term} by {votes}, of {core.voters}")
        if host.id not in core.voters:
            self.observer.fail("S10", f"{host.name} leads t{core.term} and has no vote")

    def in_force(self) -> list[Configuration]:
        """All that somebody goes by, or will when it is started again, and the committed one."""
        found = {self.configuration.index: self.configuration}
        for host in self.world.hosts:
            if host.gone:
                continue
            now = host.core.configuration if host.core is not None else host.disk.last_configuration()
            if now.seat(host.id) is not None:
                found[now.index] = now
        return [found[index] for index in sorted(found)]

    def may_lose(self, host: Host) -> bool:
        """Whether a majority of disks is left, in each configuration in force, when this one's is lost too. An observer
        counts as a voter: a leader that has heard it a moment ago may be about to promote it.
        """
        for configuration in self.in_force():
            counted = {self.world.by_id[voter] for voter in configuration.voters()}
            if configuration.seat(host.id) is not None:
                counted.add(host)
            lost = sum(1 for one in counted if one.lost or one is host)
            if host in counted and 2 * lost >= len(counted):
                return False
        return True
