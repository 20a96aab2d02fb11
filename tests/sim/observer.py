"""The invariants, checked while the cluster runs (VERIFICATION 2). It sees everything and touches nothing.

Two ways of looking. *Incrementally*, with each effect: only what that effect touched. *Anew*, every thousand steps and
at the end: slow twins that believe nothing that was kept along the way.

The log of the whole cluster is one map, `chain`: for each (index, term) that was ever durable anywhere, what stood
there and the term before it. If every place has one content and one predecessor, then two logs that agree at a place
agree in everything before it: log matching (S3), by induction, at the cost of one look-up an entry.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from zlib import crc32

from tenure.base.ids import LogIndex
from tenure.leadership import commands
from tenure.leadership.engine import KvValue, Transition
from tenure.leadership.machine import Machine
from tenure.raft.entries import COMMAND, Entry, Snapshot
from tenure.raft.events import Event, ReadIndex, TakeSnapshot
from tenure.raft.messages import AppendReply, Envelope, VoteReply
from tenure.raft.ready import Batch, Ready
from tests.sim.linearizability import Operation, check
from tests.sim.plan import RHO_PPM

if TYPE_CHECKING:
    from tests.sim.world import Host, World


class Broken(AssertionError):
    """An invariant doesn't hold."""


@dataclass
class Validity:
    """Until when (true time) a node passes its own lease check, and where the claim came from."""

    until: int
    session: str
    term: int


@dataclass
class Observer:
    """Everything that was ever seen."""

    world: "World"
    leaders: dict[int, str] = field(default_factory=dict)
    chain: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    committed: dict[int, Entry] = field(default_factory=dict)
    commit_top: int = 0
    led_commits: dict[int, tuple[int, int]] = field(default_factory=dict)
    """The last place that the leader of each term committed."""
    read_floor: dict[tuple[str, int], int] = field(default_factory=dict)
    snapshots: dict[int, int] = field(default_factory=dict)
    hashes: dict[int, str] = field(default_factory=dict)
    transitions: list[Transition] = field(default_factory=list)
    last_term: int = 0
    effects: dict[bytes, int] = field(default_factory=dict)
    fenced: dict[str, int] = field(default_factory=dict)
    receipts: dict[tuple[str, str, int], int] = field(default_factory=dict)
    last_kept: dict[str, int] = field(default_factory=dict)
    ttl_us: dict[str, int] = field(default_factory=dict)
    validity: dict[str, dict[str, Validity]] = field(default_factory=dict)
    history: list[Operation] = field(default_factory=list)
    fenced_elections: frozenset[str] = frozenset()
    granted: int = 0
    expired: int = 0
    takeovers: int = 0

    def require(self, so: bool, rule: str, text: str) -> None:
        """Fail with the rule's name."""
        if not so:
            raise Broken(f"{rule}: {text}")

    # --- the core ---------------------------------------------------------------------------------------------------

    def stepping(self, host: "Host", events: Iterable[Event]) -> None:
        """Before a step of the core."""
        for event in events:
            if type(event) is ReadIndex:
                self.read_floor[(host.boot, event.token)] = self.commit_top
            elif type(event) is TakeSnapshot:
                crc = event.image.crc
                same = self.snapshots.setdefault(event.index, crc) == crc
                self.require(same, "S11", f"{host.name} took another snapshot at {event.index} than somebody before")

    def stepped(self, host: "Host", ready: Ready) -> None:
        """After a step of the core: term, role, commit, what was committed, reads."""
        raft = host.raft
        term, commit, role = raft.term, raft.commit, raft.role
        if term != host.seen_term:
            self.require(term > host.seen_term, "S2", f"{host.name} went from term {host.seen_term} to {term}")
            host.seen_term = term
            host.led_last = 0
        if role == "leader":
            last = raft.last_index
            if host.led_last == 0:
                self.elected(host, term)
            self.require(
                last >= host.led_last, "S6", f"{host.name} leads t{term} and cut its log {host.led_last}→{last}"
            )
            host.led_last = last
        else:
            host.led_last = 0
        if commit != host.seen_commit:
            self.require(commit > host.seen_commit, "S2", f"{host.name} commit {host.seen_commit} → {commit}")
            host.seen_commit = commit
            if role == "leader":
                self.leader_commits(host, term, commit)
        if ready.committed:
            self.applied(host, ready.committed)
        for read in ready.reads:
            floor = self.read_floor.pop((host.boot, read.token), 0)
            self.require(
                read.index >= floor, "S14", f"{host.name} may read at {read.index}, but {floor} was committed before"
            )
        self.require(ready.fatal is None, "fatal", f"{host.name} stops: {ready.fatal}")

    def elected(self, host: "Host", term: int) -> None:
        """S1, S4, S8 at the moment of an election."""
        first = self.leaders.setdefault(term, host.boot)
        self.require(first == host.boot, "S1", f"{first} and {host.boot} both lead in term {term}")
        state = host.disk.hard_state
        own = state.term == term and state.vote == host.id
        self.require(own, "S8", f"{host.name} leads t{term}, but its disk says t{state.term} vote {state.vote}")
        for earlier, (index, entry_term) in self.led_commits.items():
            if earlier < term:
                covered = host.disk.covers(index, entry_term)
                self.require(covered, "S4", f"{host.name} leads t{term} without {index}@{entry_term} of t{earlier}")
        self.takeovers += 1

    def leader_commits(self, host: "Host", term: int, commit: int) -> None:
        """S7: only an entry of the own term, durable on a majority; S4: later leaders have it."""
        hosts = self.world.hosts
        self.led_commits[term] = (commit, term)
        holding = sum(other.disk.covers(commit, term) for other in hosts)
        self.require(
            2 * holding > len(hosts),
            "S7",
            f"{host.name} commits {commit} in t{term}, durable on {holding} of {len(hosts)}",
        )
        for other in hosts:
            if other.replica is not None and other.seen_term > term and other.led_last:
                self.require(
                    other.disk.covers(commit, term), "S4", f"{other.name} leads t{other.seen_term} without {commit}"
                )

    def applied(self, host: "Host", items: Iterable[Entry | Snapshot]) -> None:
        """S5: each index has one value, everywhere and for ever."""
        for item in items:
            if type(item) is not Entry:
                continue
            known = self.committed.setdefault(item.index, item)
            self.require(
                known is item or known == item, "S5", f"{host.name} applies {item}, but {known} was committed there"
            )
            self.commit_top = max(self.commit_top, item.index)

    # --- disk and network -------------------------------------------------------------------------------------------

    def durable(self, host: "Host", batch: Batch) -> None:
        """A batch has become durable: S2, S3."""
        state = host.disk.hard_state
        before = host.durable_state
        self.require(state.term >= before.term, "S2", f"{host.name} durable term {before.term} → {state.term}")
        kept = state.term > before.term or before.vote is None or state.vote == before.vote
        self.require(kept, "S2", f"{host.name} changed its vote in t{state.term}: {before.vote} → {state.vote}")
        host.durable_state = state
        for entry in batch.entries:
            before_term = host.disk.term_at(entry.index - 1)
            value = (-1 if before_term is None else before_term, crc32(entry.data) ^ entry.kind)
            known = self.chain.setdefault((entry.index, entry.term), value)
            self.require(
                known == value or (known[1] == value[1] and -1 in {known[0], value[0]}),
                "S3",
                f"{host.name} holds another {entry.index}@{entry.term}: {value} instead of {known}",
            )

    def sent(self, host: "Host", envelope: Envelope) -> None:
        """S8: what promises something durable leaves only when it is."""
        said = envelope.message
        if type(said) is AppendReply:
            disk = host.disk
            fine = disk.hard_state.term > said.term or (
                disk.hard_state.term == said.term and disk.last_index >= said.match
            )
            self.require(
                fine, "S8", f"{host.name} says {said}, its disk ends at {disk.last_index} t{disk.hard_state.term}"
            )
            self.require(
                said.batch <= disk.number, "S8", f"{host.name} says batch {said.batch}, its disk is at {disk.number}"
            )
        elif type(said) is VoteReply and said.granted:
            state = host.disk.hard_state
            fine = state.term > said.term or (state.term == said.term and state.vote == envelope.to)
            self.require(fine, "S8", f"{host.name} grants t{said.term} to {envelope.to}, its disk says {state}")

    # --- sessions, leases, effects ----------------------------------------------------------------------------------

    def heard_keepalive(self, host: "Host", session: str, number: int) -> None:
        """A keepalive has come to a member that may acknowledge it: the last receipt counts for S16's bound."""
        self.receipts.setdefault((host.boot, session, number), self.world.now)

    def kept(self, host: "Host", session: str, number: int) -> None:
        """A member acknowledges a keepalive."""
        receipt = self.receipts.get((host.boot, session, number))
        if receipt is not None:
            self.last_kept[session] = max(self.last_kept.get(session, 0), receipt)

    def changed(self, host: "Host", transitions: Iterable[Transition]) -> None:
        """Transitions as one member applies them: the same everywhere, in one order; S16, S17, S18, S19 when new."""
        for transition in transitions:
            place = transition.number - 1
            if place < len(self.transitions):
                known = self.transitions[place]
                self.require(known == transition, "S20", f"{host.name} tells {transition} where {known} was told")
                continue
            self.require(place == len(self.transitions), "S20", f"{host.name} skips to {transition}")
            self.transitions.append(transition)
            match transition.kind:
                case "granted":
                    self.on_granted(transition)
                case "session_opened":
                    self.on_opened(transition)
                case "session_expired":
                    self.on_expired(transition)
                case "kv":
                    self.on_kv(host.machine, transition)
                case _:
                    pass

    def on_granted(self, transition: Transition) -> None:
        """S17, P3.5."""
        assert transition.term is not None
        self.granted += 1
        self.require(transition.term > self.last_term, "S17", f"term {transition.term} after {self.last_term}")
        self.last_term = transition.term
        self.decided_in_its_term(transition)

    def on_opened(self, transition: Transition) -> None:
        """S19: an opening has one effect, however often and wherever it was repeated."""
        body = commands.decode(self.committed[transition.revision].data).body
        assert isinstance(body, commands.OpenSession)
        before = self.effects.setdefault(body.process.encode(), transition.revision)
        self.require(before == transition.revision, "S19", f"{body} took effect at {before} and {transition.revision}")

    def on_expired(self, transition: Transition) -> None:
        """S16, and P3.5: a deposed leader expires nobody."""
        assert transition.session is not None
        self.expired += 1
        self.decided_in_its_term(transition)
        kept = self.last_kept.get(transition.session)
        ttl = self.ttl_us.get(transition.session)
        if kept is None or ttl is None or self.world.plan.wild:
            return
        least = ttl * (1_000_000 - RHO_PPM) // 1_000_000
        passed = self.world.now - kept
        self.require(
            passed >= least, "S16", f"{transition.session} expired {passed} µs after its last receipt, ttl {ttl}"
        )

    def decided_in_its_term(self, transition: Transition) -> None:
        """P3.5: a decision took effect only in the consensus term in which it was made."""
        entry = self.committed[transition.revision]
        body = commands.decode(entry.data).body
        if isinstance(body, commands.Grant | commands.Expire | commands.Revoke | commands.Demote | commands.Evict):
            self.require(body.decided == entry.term, "S16", f"{body} took effect in consensus term {entry.term}")

    def on_kv(self, machine: Machine, transition: Transition) -> None:
        """S19: one effect for each operation; S18: what was fenced never goes back to an older term."""
        body = commands.decode(self.committed[transition.revision].data).body
        assert isinstance(body, commands.KvPut)
        before = self.effects.setdefault(body.value, transition.revision)
        self.require(
            before == transition.revision, "S19", f"{body.value!r} took effect at {before} and {transition.revision}"
        )
        if body.election is not None and body.term is not None:
            mark = self.fenced.get(body.key, 0)
            self.require(body.term >= mark, "S18", f"{body.key} accepted term {body.term} after {mark}")
            self.fenced[body.key] = body.term
        held = machine.kv_get(body.key)
        newest = isinstance(held, KvValue) and held.revision >= transition.revision
        self.require(newest, "S19", f"{body.key} was written at {transition.revision} and holds {held}")

    def may_hold(self, election: str, node: str, validity: Validity | None) -> None:
        """S15: at no moment do two nodes pass their own check for one exclusive election."""
        if election in self.fenced_elections or self.world.plan.wild:
            return
        holders = self.validity.setdefault(election, {})
        now = self.world.now
        if validity is None or validity.until <= now:
            holders.pop(node, None)
            return
        holders[node] = validity
        others = {name: held for name, held in holders.items() if name != node and held.until > now}
        self.require(
            not others, "S15", f"{node} ({validity}) and {others} all pass their check for {election} at {now}"
        )

    # --- anew -------------------------------------------------------------------------------------------------------

    def rederive(self) -> None:
        """Slow twins: logs pairwise (S3), the last commit held by a majority (S21), states at equal index (S12)."""
        hosts = self.world.hosts
        for number, one in enumerate(hosts):
            for other in hosts[:number]:
                self.match(one, other)
        if self.commit_top:
            top = self.committed[self.commit_top]
            holding = sum(host.disk.covers(top.index, top.term) for host in hosts)
            self.require(2 * holding > len(hosts), "S21", f"{top.index}@{top.term} is committed and held by {holding}")
        for host in hosts:
            if host.replica is not None:
                applied = host.replica.applied
                found = host.machine.hash()
                known = self.hashes.setdefault(applied, found)
                self.require(known == found, "S12", f"{host.name} has another state at {applied}")

    def match(self, one: "Host", other: "Host") -> None:
        """S3 by comparison: below the last place where two logs agree, they agree everywhere."""
        low = max(one.disk.base, other.disk.base) + 1
        high = min(one.disk.base + len(one.disk.entries), other.disk.base + len(other.disk.entries))
        if high < low:
            return
        ours = one.disk.entries[low - one.disk.base - 1 : high - one.disk.base]
        theirs = other.disk.entries[low - other.disk.base - 1 : high - other.disk.base]
        agreed = False
        for left, right in zip(reversed(ours), reversed(theirs), strict=True):
            agreed = agreed or left.term == right.term
            self.require(
                not agreed or left == right,
                "S3",
                f"{one.name} has {left}, {other.name} has {right}, though they agree later",
            )

    def finish(self) -> None:
        """At the end: all anew, a replay of the whole committed log (S12), and the clients' history (S13)."""
        self.rederive()
        self.replay()
        violations = check(self.history)
        self.require(not violations, "S13", "\n".join(map(str, violations)))

    def replay(self) -> None:
        """The committed log, applied from its start by a machine that never crashed, gives every member's state."""
        machine = self.world.founded_machine()
        wanted = dict(self.hashes)
        for index in range(1, self.commit_top + 1):
            entry = self.committed.get(index)
            if entry is None:
                return  # nobody living has applied it one by one: a snapshot brought everybody over it
            if entry.kind == COMMAND:
                machine.apply(LogIndex(index), entry.term, entry.data)
            if index in wanted:
                self.require(machine.hash() == wanted[index], "S12", f"the state at {index} is not what its log gives")
