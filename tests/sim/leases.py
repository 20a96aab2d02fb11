"""The invariants of sessions, leases, terms and effects (S15–S20), as the observer sees them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenure.leadership import commands
from tenure.leadership.engine import KvValue, Transition
from tenure.leadership.machine import Machine
from tests.sim.plan import RHO_PPM

if TYPE_CHECKING:
    from tests.sim.host import Host
    from tests.sim.observer import Observer
    from tests.sim.world import World


@dataclass(slots=True)
class Validity:
    """Until when (true time) a node passes its own lease check, and where the claim came from."""

    until: int
    session: str
    term: int


class Leases:
    """What members told of sessions and offices, and what nodes believe."""

    def __init__(self, world: "World", observer: "Observer") -> None:
        self.world = world
        self.observer = observer
        self.transitions: list[Transition] = []
        """All of them, in their one order."""
        self.last_term = 0
        self.owners: dict[int, str] = {}
        """By term: the token that it was granted with."""
        self.effects: dict[bytes, int] = {}
        self.fenced: dict[str, tuple[str, int]] = {}
        """By key: the election under which it is written, and the last term."""
        self.held: dict[str, int] = {}
        """By election: the term under which it is held."""
        self.receipts: dict[tuple[str, str, int], int] = {}
        self.last_kept: dict[str, int] = {}
        """By session: the receipt of the last keepalive that was acknowledged (true time)."""
        self.last_heard: dict[str, int] = {}
        """By session: the last sign of life that reached any member."""
        self.leaps: list[tuple[int, int]] = []
        """When a member's clock leapt ahead by how much, too little for its driver to notice: what holders keep their
        guard for, and beyond what S16 promises (ρ).
        """
        self.ttl_us: dict[str, int] = {}
        self.validity: dict[str, dict[str, Validity]] = {}
        self.fenced_elections: frozenset[str] = frozenset()
        self.granted = 0
        self.expired = 0

    # --- keepalives -------------------------------------------------------------------------------------------------

    def heard(self, host: "Host", session: str, number: int) -> None:
        """A keepalive has come to a member that may acknowledge it: the last receipt counts for S16's bound."""
        now = self.world.now
        self.receipts.setdefault((host.boot, session, number), now)
        self.last_heard[session] = now

    def kept(self, host: "Host", session: str, number: int) -> None:
        """A member acknowledges a keepalive."""
        receipt = self.receipts.get((host.boot, session, number))
        if receipt is not None and receipt > self.last_kept.get(session, 0):
            self.last_kept[session] = receipt

    # --- transitions ------------------------------------------------------------------------------------------------

    def changed(self, host: "Host", transitions: Iterable[Transition]) -> None:
        """Transitions as one member applies them: the same everywhere, in one order; S16, S17, S18, S19 when new."""
        told = self.transitions
        for transition in transitions:
            place = transition.number - 1
            if place < len(told):
                if told[place] != transition:
                    self.observer.fail("S20", f"{host.name} tells {transition} where {told[place]} was told")
                continue
            if place != len(told):
                self.observer.fail("S20", f"{host.name} skips to {transition}")
            told.append(transition)
            match transition.kind:
                case "granted":
                    self.on_granted(transition)
                case "ended":
                    assert transition.election is not None
                    self.held.pop(transition.election, None)
                case "session_opened":
                    self.on_opened(transition)
                case "session_expired":
                    self.on_expired(transition)
                case "kv":
                    self.on_kv(host.machine, transition, emptied=host.raft.is_witness)
                case _:
                    pass

    def body(self, transition: Transition) -> commands.AnyBody:
        """The command that made it."""
        return commands.decode(self.observer.committed[transition.revision].data).body

    def on_granted(self, transition: Transition) -> None:
        """S17, P3.5."""
        term = transition.term
        assert term is not None
        assert transition.fence_token is not None
        self.granted += 1
        if term <= self.last_term:
            self.observer.fail("S17", f"term {term} after {self.last_term}")
        self.last_term = term
        assert transition.election is not None
        self.held[transition.election] = term
        self.owners[term] = transition.fence_token
        self.decided_in_its_term(transition)

    def on_opened(self, transition: Transition) -> None:
        """S19: an opening has one effect, however often and wherever it was repeated. (Refused by a member whose queue
        is full it is asked for under another number, and opens again what has meanwhile opened and expired.)
        """
        command = commands.decode(self.observer.committed[transition.revision].data)
        body, origin = command.body, command.origin
        assert isinstance(body, commands.OpenSession)
        assert transition.session is not None
        before = self.effects.setdefault(f"{body.process} {origin}".encode(), transition.revision)
        if before != transition.revision:
            self.observer.fail("S19", f"{body} took effect at {before} and {transition.revision}")
        self.ttl_us.setdefault(transition.session, body.ttl_ms * 1_000)
        self.last_heard.setdefault(transition.session, self.world.now)

    def on_expired(self, transition: Transition) -> None:
        """S16, and P3.5: a deposed leader expires nobody."""
        assert transition.session is not None
        self.expired += 1
        self.decided_in_its_term(transition)
        kept = self.last_kept.get(transition.session)
        if kept is None or self.world.plan.wild:
            return
        ttl = self.ttl_us[transition.session]
        passed = self.world.now - kept
        leapt = sum(leap for when, leap in self.leaps if when >= kept)
        if passed + leapt < ttl * (1_000_000 - RHO_PPM) // 1_000_000:
            text = f"{transition.session} expired {passed} µs after its last receipt, ttl {ttl}"
            self.observer.fail("S16", text)

    def decided_in_its_term(self, transition: Transition) -> None:
        """P3.5: a decision took effect only in the consensus term in which it was made."""
        entry = self.observer.committed[transition.revision]
        body = commands.decode(entry.data).body
        if isinstance(body, commands.Decision) and body.decided != entry.term:
            self.observer.fail("S16", f"{body} took effect in consensus term {entry.term}")

    def on_kv(self, machine: Machine, transition: Transition, *, emptied: bool = False) -> None:
        """S19: one effect for each operation. S18: a key that was written under a term takes no write without one, and
        none but under the very term that is held.
        """
        body = self.body(transition)
        assert isinstance(body, commands.KvPut)
        revision = transition.revision
        before = self.effects.setdefault(body.value, revision)
        if before != revision:
            self.observer.fail("S19", f"{body.value!r} took effect at {before} and {revision}")
        fence = self.fenced.get(body.key)
        if body.election is not None and body.term is not None:
            if fence is not None and (fence[0] != body.election or body.term < fence[1]):
                self.observer.fail("S18", f"{body.key} accepted {body.election}:{body.term} after {fence}")
            held = self.held.get(body.election)
            if body.term != held:
                self.observer.fail("S18", f"{body.key} accepted {body.election}:{body.term}, held is {held}")
            self.fenced[body.key] = (body.election, body.term)
        elif fence is not None:
            self.observer.fail("S18", f"{body.key} accepted a write without a term after {fence}")
        if emptied:
            return  # in the same turn it has become a witness (P8)
        found = machine.kv_get(body.key)
        if not isinstance(found, KvValue) or found.revision < revision:
            self.observer.fail("S19", f"{body.key} was written at {revision} and holds {found}")

    # --- what nodes believe -----------------------------------------------------------------------------------------

    def may_hold(self, election: str, node: str, validity: Validity | None) -> None:
        """S15: at no moment do two nodes pass their own check for one exclusive election."""
        if election in self.fenced_elections or self.world.plan.wild:
            return
        holders = self.validity.get(election)
        if holders is None:
            holders = self.validity[election] = {}
        now = self.world.now
        if validity is None or validity.until <= now:
            holders.pop(node, None)
            return
        holders[node] = validity
        if len(holders) == 1:
            return
        others = {name: held for name, held in holders.items() if name != node and held.until > now}
        if others:
            text = f"{node} ({validity}) and {others} all pass their check for {election} at {now}"
            self.observer.fail("S15", text)
