"""Whole replicas and the nodes that use them on the stage: sessions, keepalives, leases (P3) in golden scripts.

A member is a `Replica` here: core, state machine and steward. A node is an application's process with the SDK's own
`Holder`, on a clock of its own; what it says travels like every message, so scripts can hold it, drop it or deliver it
late. There is one election, `orders`. What members do is written down once: by the member that leads.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tenure.base.ids import ElectionName, NodeId, SessionId
from tenure.base.instants import Instant, WallMs
from tenure.engines.native.inputs import Asked, Effects, Input, PeerCall, PeerReply, Stalled
from tenure.engines.native.replica import Replica
from tenure.leadership.engine import (
    AnyRequest,
    AnyResult,
    AutopilotSettings,
    AutopilotView,
    Campaign,
    CloseSession,
    Configure,
    ConfigureAutopilot,
    Disconnected,
    ElectionConfig,
    ElectionView,
    Keepalive,
    Kept,
    OpenSession,
    ReadAutopilot,
    ReadElection,
    Release,
    SessionOpened,
    Stepdown,
    Transition,
    Withdraw,
    Withdrawn,
)
from tenure.leadership.holder import Holder
from tenure.leadership.machine import Machine
from tenure.raft.events import Lateness
from tenure.raft.messages import Envelope
from tenure.raft.settings import Identity, Settings
from tenure.wire.frames import Call, CallReply
from tests.raft import names
from tests.raft.names import Mail, Parcel
from tests.raft.script import Script, micros, require
from tests.raft.stage import LINEAGE, Actor, Stage
from tests.raft.town import LIST, NAMES, Town

ORDERS = ElectionName("orders")
FIRST_TERM = 1000
WALL_MS = 1_800_000_000_000
REAL_US = WALL_MS * 1000
LIVE_STEP_US = 50_000
FOUNDING_ROUNDS = 4


@dataclass
class Person(Actor):
    """A node: its clock, and its holder while it has a session. `at` is the member that it talks to."""

    at: str = ""
    ttl_us: int = 0
    holder: Holder | None = None
    session: SessionId | None = None
    suspended_us: int = 0
    last: Keepalive | None = None
    answers: list[AnyResult] = field(default_factory=list)

    def keeper(self) -> Holder:
        """Its holder; it must have a session."""
        assert self.holder is not None, f"{self.name} has no session"
        return self.holder

    def id_of_session(self) -> SessionId:
        """Its session; it must have one."""
        assert self.session is not None, f"{self.name} has no session"
        return self.session


class OfficeStage(Stage):
    """Members with everything in them, and people."""

    def __init__(self, size: int, settings: Settings) -> None:
        super().__init__(size, settings)
        self.replicas: dict[str, Replica] = {}
        self.people: dict[str, Person] = {}
        self.asked: dict[int, str] = {}
        """Who waits for the answer to a token."""

    def start(self, name: str) -> None:
        """A new life, with the state machine that its disk gives."""
        actor = self.actors[name]
        assert actor.raft is None, f"{name} lives"
        actor.life += 1
        restored = actor.disk.restored()
        snapshot = restored.snapshot
        machine = Machine.restore(snapshot.image.pieces) if snapshot else Machine.founded(LINEAGE, FIRST_TERM)
        identity = Identity(actor.id, actor.boot, actor.lineage)
        replica = Replica(identity, name, restored, machine, self.settings_of(actor), actor.rng, actor.now)
        self.replicas[name] = replica
        actor.raft = replica.raft
        actor.deadline = actor.now
        self.take_turn(actor, [])

    def step(self, actor: Actor, events: Sequence[Input], *, drained: bool = True) -> None:
        """A turn of a member: what the core calls an event is an input too."""
        self.take_turn(actor, events, drained=drained)

    def take_turn(self, actor: Actor, inputs: Sequence[Input], *, drained: bool = True) -> None:
        """One step of a replica, and its effects in their order."""
        if actor.raft is None:
            return
        wall = WallMs(WALL_MS + actor.now // 1000)
        effects = self.replicas[actor.name].step(inputs, actor.now, wall, drained)
        actor.deadline = effects.deadline
        leads = actor.raft.role == "leader"
        for trace in effects.traces:
            detail = " ".join(f"{key}={self.plain(value)}" for key, value in trace.detail.items())
            self.say(f"{actor.name} · {trace.what} {detail}".rstrip())
        for transition in effects.transitions:
            if leads and transition.kind != "kv":
                self.say(f"{actor.name} applies {self.told(transition)}")
        self.deliver_effects(actor, effects)
        if leads:
            self.leaders.setdefault(actor.raft.term, set()).add(actor.name)

    def deliver_effects(self, actor: Actor, effects: Effects) -> None:
        """Frames, the write, answers."""
        for peer, frame in effects.send:
            if isinstance(frame, Envelope):
                self.post(frame)
            else:
                self.post(Parcel(actor.name, names.name_of(peer), frame))
        if effects.write is not None:
            self.submit(actor, effects.write)
        for token, result in effects.answers:
            person = self.asked.pop(token, None)
            if person is not None:
                self.post(Parcel(actor.name, person, result, token))
        if effects.fatal is not None:
            self.say(f"{actor.name} stops: {effects.fatal.reason}")

    def told(self, transition: Transition) -> str:
        """A transition, with the node instead of its session."""
        words = [transition.kind, transition.node_id or ""]
        if transition.election is not None:
            words.append(f"{transition.election}@{transition.term}" if transition.term else transition.election)
        if transition.cause is not None:
            words.append(f"({transition.cause})")
        return " ".join(word for word in words if word)

    def take(self, item: Mail) -> None:
        """A message or a parcel arrives."""
        if isinstance(item, Envelope):
            super().take(item)
            return
        if names.way(item) in self.cut:
            return
        if item.to in self.people:
            self.hear(self.people[item.to], item.content)  # type: ignore[arg-type]  # members only answer nodes
            return
        actor = self.actors[item.to]
        match item.content:
            case Call() as call:
                self.take_turn(actor, [PeerCall(names.member_id(item.sender), call)])
            case CallReply() as reply:
                self.take_turn(actor, [PeerReply(names.member_id(item.sender), reply)])
            case request:
                self.asked[item.tag] = item.sender
                self.take_turn(actor, [Asked(item.tag, request)])  # type: ignore[arg-type]  # nodes only ask

    def ask(self, person: Person, request: AnyRequest) -> None:
        """A node asks the member that it talks to."""
        self.token += 1
        self.post(Parcel(person.name, person.at, request, self.token))

    def hear(self, person: Person, result: AnyResult) -> None:
        """A node hears an answer; only an acknowledgement gives validity (P3.1)."""
        person.answers.append(result)
        match result:
            case SessionOpened():
                person.session = result.session
                person.holder = Holder(person.ttl_us)
                person.holder.realtime(self.real(person), person.now)
            case Kept() if result.session == person.session:
                person.keeper().realtime(self.real(person), person.now)
                person.keeper().acknowledged(result, person.now)
            case Withdrawn():
                person.keeper().withdrawn(ORDERS)
            case _:
                pass

    def real(self, person: Person) -> int:
        """CLOCK_REALTIME of a node: ahead of its CLOCK_BOOTTIME by what it was suspended."""
        return REAL_US + person.now + person.suspended_us


class OfficeScript(Script):
    """The language of `script`, and:

    offices N [setting=value …]         N fresh replicas, all linked
    node A TTL M                        a node that talks to member M: it has no session yet
    open A · campaign A [PRIORITY]      what it asks; `join` does both, and delivers
    keep A · resend A                   a keepalive under a fresh number; the last one again, under its own
    live D A …                          clocks of all go on, these nodes keep their sessions, all is delivered
    release A · withdraw A · close A    it gives back what it has; its validity ends first (P3.7)
    move A M · vanish A                 it talks to another member; its connection breaks at the member it talks to
    suspend A D                         its machine was suspended: CLOCK_REALTIME goes on, nothing else
    stepdown A [to=B] [grace=D]         A asks for a stepdown of `orders`
    fenced A                            A asks that `orders` be fenced (P3.8)
    gap M D                             member M stood still for D: it hears that first, and its sockets, then time
    holdings M                          what M's state machine and steward say of `orders`
    autopilot M dead=D steady=D         sets the patience of the autopilot, by asking M
    pilot M                             what M's autopilot says
    expect A check=S [until=D]          valid, ran_out, unconfirmed, not_held; how much longer it is valid
    expect M holder=A|nobody [sessions=A,B] [grant=TERM]

    town N                              N empty directories, all started with the same list of N
    until A STATE                       go on, effect by effect, until A's disk is pending or sealed
    rest                                until nothing more happens
    reboot A · wiped A · down A         a new life on its disk, or on an emptied one; or none for now
    expect founding A STATE             what A's disk says
    expect one-lineage                  no two sealed members of two clusters
    expect refuses A WORDS              what A refuses and why
    """

    stage: OfficeStage
    town: Town
    effects: Iterator[str]

    def some(self, words: tuple[str, ...]) -> list[Actor]:
        """These, or all members and nodes."""
        everybody: dict[str, Actor] = {**self.stage.actors, **getattr(self.stage, "people", {})}
        return [everybody[name] for name in words or tuple(everybody)]

    def make_stage(self, size: int, settings: Settings) -> Stage:
        """Replicas if the script asked for offices."""
        return OfficeStage(size, settings) if self.whole else Stage(size, settings)

    whole = False

    def do_offices(self, size: str, *words: str) -> None:
        """Fresh replicas."""
        self.whole = True
        self.do_cluster(size, *words)

    def person(self, name: str) -> Person:
        """A node."""
        return self.stage.people[name]

    def do_node(self, name: str, ttl: str, member: str) -> None:
        """A process on a machine of its own."""
        host = self.stage.actors[member]
        self.stage.people[name] = Person(name, host.id, host.disk, host.rng, host.now, at=member, ttl_us=micros(ttl))

    def do_open(self, name: str) -> None:
        """A session."""
        person = self.person(name)
        process = f"{len(self.stage.people):016x}"
        self.stage.ask(person, OpenSession(NodeId(name), person.ttl_us // 1000, process))

    def do_campaign(self, name: str, priority: str = "0") -> None:
        """A candidacy."""
        person = self.person(name)
        self.stage.ask(person, Campaign(person.id_of_session(), ORDERS, int(priority)))

    def do_join(self, name: str, priority: str = "0") -> None:
        """Session and candidacy, delivered, and a keepalive, so that the steward has heard of it."""
        self.do_open(name)
        self.stage.settle()
        self.do_campaign(name, priority)
        self.stage.settle()
        self.do_keep(name)
        self.stage.settle()

    def do_keep(self, name: str) -> None:
        """A transmission: a fresh number (P3.2)."""
        person = self.person(name)
        person.keeper().realtime(self.stage.real(person), person.now)
        person.last = Keepalive(person.id_of_session(), person.keeper().transmit(person.now))
        self.stage.ask(person, person.last)

    def do_resend(self, name: str) -> None:
        """The very same keepalive again."""
        person = self.person(name)
        assert person.last is not None
        self.stage.ask(person, person.last)

    def do_live(self, duration: str, *nodes: str) -> None:
        """Time passes, and these nodes keep their sessions."""
        left = micros(duration)
        while left > 0:
            for name in nodes:
                self.do_keep(name)
            self.stage.settle()
            self.stage.advance(self.some(()), min(LIVE_STEP_US, left), settle=True)
            left -= LIVE_STEP_US

    def do_release(self, name: str) -> None:
        """It gives the office back."""
        person = self.person(name)
        lease = person.keeper().lease(ORDERS)
        assert lease is not None, f"{name} holds nothing"
        person.keeper().end(ORDERS, lease.term)
        self.stage.ask(person, Release(person.id_of_session(), ORDERS, lease.term))

    def do_withdraw(self, name: str) -> None:
        """It stands no more."""
        person = self.person(name)
        person.keeper().withdrawing(ORDERS)
        self.stage.ask(person, Withdraw(person.id_of_session(), ORDERS))

    def do_close(self, name: str) -> None:
        """Its session ends."""
        person = self.person(name)
        person.keeper().close()
        self.stage.ask(person, CloseSession(person.id_of_session()))

    def do_move(self, name: str, member: str) -> None:
        """It talks to another member from now on."""
        self.person(name).at = member

    def do_vanish(self, name: str) -> None:
        """Its connection breaks; the member that it talks to sees that."""
        person = self.person(name)
        self.stage.ask(person, Disconnected(person.id_of_session()))

    def do_suspend(self, name: str, duration: str) -> None:
        """Its machine slept."""
        person = self.person(name)
        person.suspended_us += micros(duration)
        person.keeper().realtime(self.stage.real(person), person.now)

    def do_stepdown(self, name: str, *words: str) -> None:
        """Somebody asks for another leader."""
        options = dict(word.split("=") for word in words)
        grace_ms = micros(options.get("grace", "500ms")) // 1000
        successor = NodeId(options["to"]) if "to" in options else None
        self.stage.ask(self.person(name), Stepdown(ORDERS, successor, None, grace_ms=grace_ms))

    def do_fenced(self, name: str) -> None:
        """All resources of `orders` are guarded."""
        self.stage.ask(self.person(name), Configure(ORDERS, ElectionConfig(mode="fenced")))

    def do_gap(self, name: str, duration: str) -> None:
        """A member's process stood still; others went on meanwhile if the script let them."""
        actor = self.stage.actors[name]
        actor.now = Instant(actor.now + micros(duration))
        self.stage.take_turn(actor, [Stalled(micros(duration)), Lateness(micros(duration))], drained=False)

    def do_holdings(self, name: str) -> None:
        """What a member says."""
        view = self.view(name)
        said = [f"{one.node_id} {one.reason or 'eligible'}" for one in view.candidates]
        self.stage.say(f"{name}: orders {view.state} {view.node_id}@{view.term}, candidates: {', '.join(said)}")

    def do_autopilot(self, name: str, *words: str) -> None:
        """Its settings."""
        options = dict(word.split("=") for word in words)
        settings = AutopilotSettings(
            dead_after_ms=micros(options["dead"]) // 1000, stabilise_ms=micros(options["steady"]) // 1000
        )
        self.stage.token += 1
        self.stage.take_turn(self.stage.actors[name], [Asked(self.stage.token, ConfigureAutopilot(settings))])
        self.stage.settle()

    def do_pilot(self, name: str) -> None:
        """What it does, or waits for."""
        actor, token = self.stage.actors[name], -2
        effects = self.stage.replicas[name].step(
            [Asked(token, ReadAutopilot(stale=True))], actor.now, WallMs(WALL_MS), drained=False
        )
        (answer,) = [result for got, result in effects.answers if got == token]
        assert isinstance(answer, AutopilotView), answer
        silent = ", ".join(f"{one.name} silent for {one.silent_ms} ms" for one in answer.members if one.silent_ms)
        self.stage.say(f"{name}: autopilot {answer.state}: {answer.reason}" + (f" ({silent})" if silent else ""))

    def view(self, name: str) -> ElectionView:
        """A member's own view of `orders`."""
        actor = self.stage.actors[name]
        token = -2
        effects = self.stage.replicas[name].step(
            [Asked(token, ReadElection(ORDERS, stale=True))], actor.now, WallMs(WALL_MS), drained=False
        )
        (answer,) = [result for got, result in effects.answers if got == token]
        assert isinstance(answer, ElectionView), answer
        return answer

    # --- founding ---------------------------------------------------------------------------------------------------

    def do_town(self, size: str) -> None:
        """Empty directories."""
        self.town = Town(NAMES[: int(size)])
        self.effects = self.town.effects(FOUNDING_ROUNDS)
        self.town.lists = {name: LIST[: int(size)] for name in NAMES[: int(size)]}

    def found(self, done: Callable[[], bool]) -> None:
        """Effect by effect until it is so; at most some rounds of hellos."""
        town = self.town
        for _ in range(2):  # what the last command left unfinished, then some rounds more
            for _ in self.effects:
                town.check()
                if done():
                    break
            else:
                self.effects = town.effects(FOUNDING_ROUNDS)
                continue
            break
        self.stage.lines.extend(town.lines)
        town.lines.clear()

    def do_until(self, name: str, state: str) -> None:
        """Up to a durable write."""
        self.found(lambda: self.town.disks[name][1].state == state)
        require(self.town.disks[name][1].state == state, f"{name} is {self.town.disks[name][1].state}")

    def do_rest(self) -> None:
        """For a while."""
        self.found(lambda: False)

    def do_reboot(self, name: str) -> None:
        """What was under way from and to it is lost."""
        self.town.start(name)

    def do_wiped(self, name: str) -> None:
        """An emptied disk draws another id."""
        self.town.wipe(name)

    def do_down(self, name: str) -> None:
        """It doesn't run."""
        del self.town.up[name]

    def expect_founding(self, subject: str, words: tuple[str, ...]) -> None:
        """Claims on a founding."""
        town = self.town
        match subject:
            case "founding":
                state = town.disks[words[0]][1].state
                require(state == words[1], f"{words[0]} is {state}")
            case "refuses":
                said = town.refusals.get(words[0]) or "nothing"
                require(" ".join(words[1:]) in said, f"{words[0]} refuses: {said}")
            case _:
                found = {record.lineage for record in town.sealed().values()}
                require(len(found) == 1, f"{len(found)} lineages")

    # --- claims -----------------------------------------------------------------------------------------------------

    def do_expect(self, subject: str, *words: str) -> None:
        """Claims on nodes and offices; all others are the core's."""
        if subject in {"founding", "refuses", "one-lineage"}:
            self.expect_founding(subject, words)
        elif subject in getattr(self.stage, "people", {}):
            self.expect_node(self.person(subject), words)
        elif words and words[0].partition("=")[0] in {"holder", "sessions", "grant"}:
            self.expect_office(subject, words)
        else:
            super().do_expect(subject, *words)

    def expect_node(self, person: Person, words: tuple[str, ...]) -> None:
        """What a node believes."""
        holder = person.keeper()
        holder.realtime(self.stage.real(person), person.now)
        facts = {
            "check": holder.check(ORDERS, person.now),
            "left": f"{holder.remaining_us(ORDERS, person.now) // 1000}ms",
            "heard": type(person.answers[-1]).__name__ if person.answers else "nothing",
        }
        for word in words:
            key, _, value = word.partition("=")
            require(facts[key] == value, f"{person.name} has {key}={facts[key]}")

    def expect_office(self, name: str, words: tuple[str, ...]) -> None:
        """What a member's state machine holds."""
        machine = self.stage.replicas[name].machine
        holder = machine.holder(ORDERS)
        facts = {
            "holder": holder.node if holder is not None else "nobody",
            "grant": str(holder.term) if holder is not None else "0",
            "sessions": ",".join(sorted(session.node for session in machine.state.sessions.values())) or "none",
        }
        for word in words:
            key, _, value = word.partition("=")
            require(facts[key] == value, f"{name} has {key}={facts[key]}")
