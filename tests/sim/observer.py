"""The invariants, checked while the cluster runs (VERIFICATION 2). It sees everything and touches nothing.

Two ways of looking. *Incrementally*, with each effect: only what that effect touched (here S1–S8, S11, S14, S21; what
is about sessions, leases and effects is in `leases`). *Anew*, every thousand steps and at the end: `twins` believe
nothing that was kept along the way.

The log of the whole cluster is one map, `chain`: for each (index, term) that was ever durable anywhere, what stood
there and the term before it. If every place has one content and one predecessor, then two logs that agree at a place
agree in everything before it: log matching (S3), by induction, at the cost of one look-up an entry.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn
from zlib import crc32

from tenure.base.ids import LogIndex
from tenure.raft import quorum
from tenure.raft.entries import CONFIGURATION, Configuration, Entry, Restored, Snapshot, configuration_of
from tenure.raft.events import ReadIndex, TakeSnapshot
from tenure.raft.messages import AppendReply, Envelope, VoteReply
from tenure.raft.ready import Batch, ReadState, Ready
from tenure.raft.state import Core, Leader
from tests.sim.host import Host
from tests.sim.leases import Leases
from tests.sim.linearizability import Operation
from tests.sim.seats import Seats

if TYPE_CHECKING:
    from tests.sim.world import World


class Broken(Exception):
    """An invariant doesn't hold."""


class Observer:
    """Everything about consensus that was ever seen. `commit_top`: the highest index that anybody has committed."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.leases = Leases(world, self)
        self.seats = Seats(world, self)
        self.leaders: dict[int, str] = {}
        """By term: the life of a member that led it."""
        self.chain: dict[tuple[int, int], tuple[int, int]] = {}
        self.committed: dict[int, Entry] = {}
        self.commit_top = 0
        self.top_voters: Sequence[Host] = ()
        """Who counted when that was committed."""
        self.led_commits: dict[int, int] = {}
        """By term: the last place that its leader committed. Rises with the term."""
        self.asked_reads: dict[tuple[str, int], tuple[int, int]] = {}
        """By life and token: what was committed when a read was asked for, and the last heartbeat until then."""
        self.snapshots: dict[int, int] = {}
        """By index: the checksum of the state there."""
        self.kept: dict[int, tuple[int, Configuration, int]] = {}
        """By index: term, configuration and feature version of the snapshot there."""
        self.elected_last = 0
        """When, in true time, a leader was last elected."""
        self.takeovers = 0
        self.history: list[Operation] = []

    def require(self, so: bool, rule: str, text: str) -> None:
        """Fail with the rule's name. For what is seldom asked: the text is made in any case."""
        if not so:
            raise Broken(f"{rule}: {text}")

    def fail(self, rule: str, text: str) -> NoReturn:
        """An invariant doesn't hold."""
        raise Broken(f"{rule}: {text}")

    def holders(self, voters: Sequence[Host], index: int, term: int) -> tuple[bool, list[str]]:
        """Whether a majority of `voters` holds that entry durably, and who does. Lost disks count by what they held."""
        holding = [host.name for host in voters if not host.lost and host.disk.covers(index, term)]
        lost = sum(1 for host in voters if host.lost and (host.had or host.disk).covers(index, term))
        return 2 * (len(holding) + lost) > len(voters), holding

    # --- a life begins ----------------------------------------------------------------------------------------------

    def started(self, host: Host, restored: Restored) -> None:
        """S2, S21: what was durable is what the new life begins with; what was promised is still there."""
        core = host.core
        assert core is not None
        floor = restored.snapshot.index if restored.snapshot else 0
        if core.commit < floor:
            self.fail("S2", f"{host.name} restarts with commit {core.commit} below its snapshot at {floor}")
        state = restored.hard_state
        if (core.term, core.vote) != (state.term, state.vote):
            self.fail("S21", f"{host.name} restarts in t{core.term} voting {core.vote}, its disk says {state}")
        if core.log.last_index != host.disk.last_index or core.log.durable != core.log.last_index:
            self.fail(
                "S21", f"{host.name} restarts with a log to {core.log.last_index}, its disk's ends at {host.disk}"
            )
        term, match = host.promised
        if not host.suspect and state.term == term and host.disk.last_index < match:
            self.fail("S21", f"{host.name} acknowledged {match} in t{term}, and comes back with {host.disk.last_index}")
        host.seen_term, host.seen_commit, host.seen_configuration = core.term, core.commit, core.configuration

    # --- the core ---------------------------------------------------------------------------------------------------

    def stepping(self, host: Host, event: ReadIndex | TakeSnapshot) -> None:
        """Before a step of the core that asks for a read, or takes a snapshot."""
        core = host.core
        assert core is not None
        if type(event) is ReadIndex:
            beat = core.role.beat if type(core.role) is Leader else 0
            self.asked_reads[(host.boot, event.token)] = (self.commit_top, beat)
            return
        assert type(event) is TakeSnapshot
        found = event.image.crc
        if self.snapshots.setdefault(event.index, found) != found:
            self.fail("S11", f"{host.name} took another snapshot at {event.index} than somebody before")
        if event.index > host.seen_commit:
            self.fail("S11", f"{host.name} took a snapshot at {event.index}, committed is {host.seen_commit}")

    def stepped(self, host: Host, ready: Ready) -> None:
        """After a step of the core that moved its term or its commit, or handed something out."""
        core = host.core
        assert core is not None
        term, commit = core.term, core.commit
        led = host.seen_term if host.led_last else term if type(core.role) is Leader else 0
        if term != host.seen_term:
            if term < host.seen_term:
                self.fail("S2", f"{host.name} went from term {host.seen_term} to {term}")
            host.seen_term = term
            host.led_last = 0
        if commit != host.seen_commit:
            before = host.seen_commit
            if commit < before:
                self.fail("S2", f"{host.name} commit {before} → {commit}")
            host.seen_commit = commit
            if led:
                self.leader_commits(host, core, led, before)
        if ready.committed:
            self.applied(host, ready.committed)
        for read in ready.reads:
            self.read(host, core, read)

    def elected(self, host: Host, core: Core) -> None:
        """S1, S4, S8 at the moment of an election."""
        term = core.term
        first = self.leaders.setdefault(term, host.boot)
        if first != host.boot:
            self.fail("S1", f"{first} and {host.boot} both lead in term {term}")
        state = host.disk.hard_state
        if state.term != term or state.vote != host.id:
            self.fail("S8", f"{host.name} leads t{term}, but its disk says t{state.term} vote {state.vote}")
        self.vote(host, term, host.id)
        self.seats.elected(host, core)
        earlier = [known for known in self.led_commits if known < term]
        if earlier:
            last = max(earlier)
            if not host.disk.covers(self.led_commits[last], last):
                self.fail("S4", f"{host.name} leads t{term} without {self.led_commits[last]}@{last}")
        self.takeovers += 1
        self.elected_last = self.world.now

    def vote(self, host: Host, term: int, candidate: str) -> None:
        """S8, S21: one vote a term, over all its lives."""
        known = host.voted.setdefault(term, candidate)
        if known != candidate:
            self.fail("S21", f"{host.name} voted for {known} in t{term}, and now for {candidate}")

    def leader_commits(self, host: Host, core: Core, term: int, before: int) -> None:
        """S7: only an entry of the own term, durable on a majority; S4: later leaders have it; S5. A leader that was
        deposed in the very step may have committed more in that step, as the next one's follower.
        """
        commit = core.commit
        if type(core.role) is not Leader or core.term != term:
            while commit > before and core.log.term_at(commit) != term:
                commit = LogIndex(commit - 1)
            if commit == before:
                return
        if core.log.term_at(commit) != term:
            self.fail("S7", f"{host.name} leads t{term} and commits {commit}@{core.log.term_at(commit)}")
        self.led_commits[term] = commit
        voters = [self.world.by_id[voter] for voter in core.voters]
        enough, holding = self.holders(voters, commit, term)
        before_it = host.seen_configuration
        if not enough and before_it is not None and commit < core.configuration.index:
            # The step appended a change behind what it had committed: that counted by the configuration before.
            voters = [self.world.by_id[voter] for voter in before_it.voters()]
            enough, holding = self.holders(voters, commit, term)
        if not enough:
            self.fail("S7", f"{host.name} commits {commit} in t{term}, durable on {holding} of {len(voters)} voters")
        for other in self.world.hosts:
            if other.led_last and other.seen_term > term and not other.disk.covers(commit, term):
                self.fail("S4", f"{other.name} leads t{other.seen_term} without {commit}@{term}")
        first = max(LogIndex(before + 1), core.log.first)
        for entry in core.log.between(first, commit):
            self.commit_one(host, entry)
        if commit > self.commit_top:
            self.commit_top, self.top_voters = commit, voters

    def commit_one(self, host: Host, entry: Entry) -> None:
        """S5: each index has one value, everywhere and for ever."""
        known = self.committed.get(entry.index)
        if known is None:
            self.committed[entry.index] = entry
            if entry.kind == CONFIGURATION:
                self.seats.committed(configuration_of(entry))
        elif known is not entry and known != entry:
            self.fail("S5", f"{host.name} commits {entry}, but {known} was committed there")

    def applied(self, host: Host, items: tuple[Entry | Snapshot, ...]) -> None:
        """S5, S7: what is applied was committed by a leader, and is what was committed there."""
        committed = self.committed
        for item in items:
            if type(item) is not Entry:
                continue
            known = committed.get(item.index)
            if known is not item and known != item:
                self.fail("S5", f"{host.name} applies {item}, but {known} was committed there")

    def read(self, host: Host, core: Core, read: ReadState) -> None:
        """S14: a majority has answered a heartbeat that was made after the request, and nothing committed is missed."""
        floor, beat = self.asked_reads.pop((host.boot, read.token), (0, 0))
        if read.index < floor:
            self.fail("S14", f"{host.name} may read at {read.index}, but {floor} was committed before it was asked")
        leader = core.role
        if type(leader) is not Leader or core.configuration is not host.seen_configuration:
            return  # in this very step it lost the leadership, or who counts was changed, after the read was confirmed
        answered = [leader.beat if one == core.me else leader.progress[one].beat_acked for one in core.voters]
        if quorum.held_by_quorum(answered) <= beat:
            self.fail("S14", f"{host.name} may read, but no heartbeat after {beat} was answered: {answered}")

    # --- disk and network -------------------------------------------------------------------------------------------

    def durable(self, host: Host, batch: Batch) -> None:
        """A batch has become durable: S2, S3, S11."""
        disk = host.disk
        state, before = disk.hard_state, host.state_seen
        if state is not before:
            if state.term < before.term:
                self.fail("S2", f"{host.name} durable term {before.term} → {state.term}")
            if state.term == before.term and before.vote is not None and state.vote != before.vote:
                self.fail("S2", f"{host.name} changed its vote in t{state.term}: {before.vote} → {state.vote}")
            host.state_seen = state
        if batch.snapshot is not None:
            self.snapshot(host, batch.snapshot, install=batch.install)
        chain = self.chain
        if batch.entries:
            before_term = disk.term_at(batch.entries[0].index - 1)
            last = -1 if before_term is None else before_term
            for entry in batch.entries:
                value = (last, crc32(entry.data) ^ entry.kind)
                last = entry.term
                place = (entry.index, last)
                known = chain.setdefault(place, value)
                if known != value and not (known[1] == value[1] and -1 in {known[0], value[0]}):
                    self.fail("S3", f"{host.name} holds another {place}: {value} instead of {known}")

    def snapshot(self, host: Host, snapshot: Snapshot, *, install: bool) -> None:
        """S11: it is the state at its index, as whoever took it first had it, and lies within what is committed."""
        index = snapshot.index
        if self.snapshots.get(index) != snapshot.image.crc:
            self.fail("S11", f"{host.name} keeps a snapshot at {index} that nobody has taken")
        beside = (snapshot.term, snapshot.configuration, snapshot.feature)
        known = self.kept.setdefault(index, beside)
        if known != beside:
            self.fail("S11", f"{host.name} keeps a snapshot at {index} with {beside}, another was kept with {known}")
        entry = self.committed.get(index)
        if entry is not None and entry.term != snapshot.term:
            self.fail("S11", f"{host.name} keeps a snapshot at {index}@{snapshot.term}, committed is t{entry.term}")
        if index > self.commit_top:
            self.fail("S11", f"{host.name} keeps a snapshot at {index}, committed is {self.commit_top}")
        if install and host.core is not None and host.core.applied_to < index:
            self.fail("S11", f"{host.name} installed a snapshot at {index} and is at {host.core.applied_to}")

    def sent(self, host: Host, envelope: Envelope) -> None:
        """S8: what promises something durable leaves only when it is."""
        said = envelope.message
        kind = type(said)
        if kind is AppendReply:
            assert type(said) is AppendReply
            disk = host.disk
            term = disk.hard_state.term
            if term < said.term or (term == said.term and disk.last_index < said.match):
                self.fail("S8", f"{host.name} says {said}, its disk ends at {disk.last_index} t{term}")
            if said.batch > disk.number:
                self.fail("S8", f"{host.name} says batch {said.batch}, its disk is at {disk.number}")
            host.promised = max(host.promised, (said.term, said.match))
        elif kind is VoteReply:
            assert type(said) is VoteReply
            if said.granted:
                state = host.disk.hard_state
                if state.term < said.term or (state.term == said.term and state.vote != envelope.to):
                    self.fail("S8", f"{host.name} grants t{said.term} to {envelope.to}, its disk says {state}")
                self.vote(host, said.term, envelope.to)
