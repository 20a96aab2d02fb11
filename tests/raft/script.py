"""The language of golden scripts: blocks of commands, a line `---`, and what came of them.

    # what this block shows
    cluster 3
    elect m1
    ---
    m1 · became_leader term=1

A block ends with an empty line. `make golden` rewrites what stands below each `---`; a claim that must not be lost in
such a rewrite is an `expect`, which fails whatever the output. Prefix a command with `quietly` to leave its output out.

    cluster N [setting=value …]          N fresh voters, all linked, time stands still
    members N [setting=value …]          the same, but none of them runs yet; `witness=B`: B is one
    preset A TERM… [term=T] [vote=B]     what A's disk holds: an entry of each of these terms
    elect A · win A                      let time pass for A alone until it leads and serves; until it leads
    stand A                              let time pass for A alone until it asks for votes; deliver nothing
    advance D [A …] · run D [A …]        clocks go on, of all or of these; `run` delivers at once whatever follows
    settle · deliver [first] [FILTER …]  deliver all until nothing moves; or only what passes the filter now
    drop · hold · copy FILTER …          take away; keep back until `free`; keep a copy until `replay`
    backwards                            what is under way arrives in the opposite order
    FILTER: A>B, A>*, *>B, or a type     all must fit
    propose A TEXT [expected=T]          · read A · transfer A [B] · snapshot A
    newcomer A                           a member that was not founded starts with an empty disk
    revive A B                           A begins a cluster of its own with what B, which is down, had applied
    change A WISH [expected=I] [dry]     see `Script.do_change`
    disk A manual|auto · persist A       with a manual disk a write completes only by `persist`
    crash A [keep] · kill A [keep]       the process ends; `kill`: and all others lose their link to it (fin)
    speaks A N                           from its next life on A's program speaks feature version N
    restart A · wipe A                   a new life on what its disk holds; an emptied disk under the same id
    rewind A N                           A dies, and its disk is found as it was N batches ago
    lose A B EVIDENCE [closing]          A loses its connection from B
    link A B                             a connection stands again
    forge A>B TYPE …                     a message that nobody sent, see `Script.do_forge`
    wake A D                             A's clock goes on; A takes a turn before its sockets are drained
    cut A>B … · partition A … | B …      swallow messages, in silence · `heal` ends it
    late A D · rtt A B D                 what a member measures
    beats on|off                         whether heartbeats are written down
    status · log A · durable A · queue   look
    hearing A                            what the leader A sees of the others, and who doesn't hear them
    expect …                             see `Script.do_expect`
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec

from tenure.base.ids import BatchNumber, ConsensusTerm, LogIndex
from tenure.base.instants import Instant
from tenure.raft.core import Raft
from tenure.raft.entries import COMMAND, Entry, HardState, Seat
from tenure.raft.events import Lateness, ReadIndex, RttSample, Transfer
from tenure.raft.membership import Add, Demote, Promote, Remove, Replace, Wish
from tenure.raft.messages import AnyMessage, AppendReply, Envelope, TimeoutNow, Vote
from tenure.raft.settings import Settings
from tests.raft import names
from tests.raft.names import Mail
from tests.raft.stage import LINEAGE, Actor, Stage, Write
from tests.sim.disk import Disk

DELIVERING = {"settle", "run", "elect", "win", "cluster", "offices", "join", "live"}
"""Commands after which nothing is under way."""
UNITS = {"us": 1, "ms": 1_000, "s": 1_000_000}


class Unmet(AssertionError):
    """An `expect` that isn't so."""


@dataclass(frozen=True)
class Block:
    """Commands with their comments as they stand in the file, and the output below them."""

    text: tuple[str, ...]
    output: str


def parse(text: str) -> list[Block]:
    """The blocks of a script."""
    blocks = []
    for part in re.split(r"\n\n+", text.strip("\n")):
        head, _, output = part.partition("\n---")
        blocks.append(Block(tuple(head.splitlines()), output.strip("\n")))
    return blocks


def render(blocks: list[Block]) -> str:
    """A script as it stands in its file."""
    parts = []
    for block in blocks:
        lines = list(block.text)
        if any(line and not line.startswith("#") for line in lines):
            lines.append("---")
        if block.output:
            lines.append(block.output)
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def micros(text: str) -> int:
    """`100ms` as microseconds."""
    number, unit = re.fullmatch(r"(\d+)(us|ms|s)", text).groups()  # type: ignore[union-attr]  # a wrong script fails here
    return int(number) * UNITS[unit]


def passes(words: list[str]) -> Callable[[Mail], bool]:
    """A filter on messages."""

    def fits(sent: Mail) -> bool:
        for word in words:
            if ">" in word:
                sender, to = word.split(">")
                way = names.way(sent)
                if sender not in {"*", way[0]} or to not in {"*", way[1]}:
                    return False
            elif names.kind(sent) != word:
                return False
        return True

    return fits


class Script:
    """Runs the blocks of one file."""

    def __init__(self) -> None:
        self.stage = Stage(0, Settings())
        self.copies: list[Mail] = []
        self.is_heard = True
        """Whether the last command's output was kept: of what a quiet one did nobody can say that it wasn't."""
        self.is_settled = False
        """Whether the last command has delivered all: then nothing is under way, and to claim so says nothing."""

    def run(self, blocks: list[Block]) -> list[Block]:
        """The same blocks with the output that comes of them now."""
        return [Block(block.text, "\n".join(self.run_block(block))) for block in blocks]

    def run_block(self, block: Block) -> Iterator[str]:
        """The output of one block."""
        self.stage.lines.clear()
        for number, line in enumerate(block.text):
            command = line.strip()
            if not command or command.startswith("#"):
                continue
            before = len(self.stage.lines)
            quiet = command.startswith("quietly ")
            name, *words = command.removeprefix("quietly ").split()
            if name != "expect":
                self.is_heard = not quiet
                self.is_settled = name in DELIVERING
            try:
                getattr(self, f"do_{name}")(*words)
            except AssertionError as error:
                shown = "\n".join(self.stage.lines[-30:])
                raise Unmet(f"line {number + 1} of the block, {command!r}: {error}\n{shown}") from error
            if quiet:
                del self.stage.lines[before:]
        yield from self.stage.lines

    def some(self, words: tuple[str, ...]) -> list[Actor]:
        """These members, or all."""
        return [self.stage.actors[name] for name in words or tuple(self.stage.actors)]

    # --- building and time ------------------------------------------------------------------------------------------

    def do_members(self, size: str, *words: str) -> None:
        """Voters that don't run yet."""
        options = dict(word.split("=") for word in words)
        witness = options.pop("witness", "")
        changes = {name: int(value) for name, value in options.items()}
        self.stage = self.make_stage(int(size), msgspec.structs.replace(Settings(), **changes))
        if witness:
            self.stage.seat_witness(witness)

    def make_stage(self, size: int, settings: Settings) -> Stage:
        """Cores alone; `offices.OfficeScript` puts whole replicas there."""
        return Stage(size, settings)

    def do_preset(self, name: str, *words: str) -> None:
        """What a disk holds: one entry of each term, `term=` and `vote=` if they aren't the last entry's and nobody."""
        options = dict(word.split("=") for word in words if "=" in word)
        terms = [int(word) for word in words if "=" not in word]
        disk = self.stage.actors[name].disk
        disk.entries = [
            Entry(LogIndex(place + 1), ConsensusTerm(term), COMMAND, f"{place + 1}@{term}".encode())
            for place, term in enumerate(terms)
        ]
        vote = names.member_id(options["vote"]) if "vote" in options else None
        disk.hard_state = HardState(ConsensusTerm(int(options.get("term", terms[-1] if terms else 0))), vote)

    def do_cluster(self, size: str, *words: str) -> None:
        """Fresh voters, all linked."""
        self.do_members(size, *words)
        for name in self.stage.actors:
            self.stage.start(name)
        members = list(self.stage.actors)
        for number, name in enumerate(members):
            for other in members[:number]:
                self.stage.connect(other, name)
        self.stage.settle()
        self.stage.lines.clear()

    def do_elect(self, name: str) -> None:
        """Time passes for one member alone until it leads and serves."""
        self.pass_time(name, lambda raft: raft.is_serving)

    def do_win(self, name: str) -> None:
        """Time passes for one member alone until it leads."""
        self.pass_time(name, lambda raft: raft.role == "leader")

    def do_stand(self, name: str) -> None:
        """Time passes for one member alone until it asks for votes or pre-votes; nothing is delivered."""
        actor = self.stage.actors[name]
        for _ in range(20):
            if self.stage.raft(name).role in {"candidate", "pre_candidate"}:
                return
            self.stage.advance([actor], max(0, actor.deadline - actor.now), settle=False)
        raise AssertionError(f"{name} does not stand")

    def pass_time(self, name: str, done: Callable[[Raft], bool]) -> None:
        """Go from deadline to deadline of one member; all is delivered at once."""
        actor = self.stage.actors[name]
        for _ in range(200):
            self.stage.settle()
            if done(self.stage.raft(name)):
                return
            self.stage.advance([actor], max(0, actor.deadline - actor.now), settle=True)
        raise AssertionError(f"{name} was not elected")

    def do_advance(self, duration: str, *words: str) -> None:
        """Clocks go on; nothing is delivered."""
        self.stage.advance(self.some(words), micros(duration), settle=False)

    def do_run(self, duration: str, *words: str) -> None:
        """Clocks go on; everything is delivered at once."""
        self.stage.settle()
        self.stage.advance(self.some(words), micros(duration), settle=True)

    def do_late(self, name: str, duration: str) -> None:
        """A member's loop was late."""
        self.stage.step(self.stage.actors[name], [Lateness(micros(duration))])

    def do_rtt(self, name: str, peer: str, duration: str) -> None:
        """A member measured a round trip."""
        self.stage.step(self.stage.actors[name], [RttSample(names.member_id(peer), micros(duration))])

    # --- the network ------------------------------------------------------------------------------------------------

    def do_settle(self) -> None:
        """Deliver all."""
        self.stage.settle()

    def do_deliver(self, *words: str) -> None:
        """Deliver what is in the queue now and fits, not what follows from it."""
        first = words[:1] == ("first",)
        fits = passes(list(words[first:]))
        chosen = [item for item in self.stage.queue if not isinstance(item, Write) and fits(item)]
        assert chosen, "nothing to deliver"
        if first:
            del chosen[1:]
        for item in chosen:
            self.stage.queue.remove(item)
            self.stage.take(item)

    def do_drop(self, *words: str) -> None:
        """Take messages away."""
        fits = passes(list(words))
        for item in list(self.stage.queue):
            if not isinstance(item, Write) and fits(item):
                self.stage.queue.remove(item)

    def do_hold(self, *words: str) -> None:
        """Keep messages back, those under way too."""
        fits = passes(list(words))
        kept = [item for item in self.stage.queue if not isinstance(item, Write) and fits(item)]
        self.stage.queue = [item for item in self.stage.queue if item not in kept]
        self.stage.held.append((fits, kept))

    def do_free(self) -> None:
        """What was held goes on its way."""
        for _, kept in self.stage.held:
            self.stage.queue.extend(kept)
        self.stage.held = []

    def do_copy(self, *words: str) -> None:
        """Keep copies of messages under way."""
        fits = passes(list(words))
        self.copies = [item for item in self.stage.queue if not isinstance(item, Write) and fits(item)]
        assert self.copies, "nothing to copy"

    def do_backwards(self) -> None:
        """What is under way arrives in the opposite order."""
        self.stage.queue.reverse()

    def do_replay(self) -> None:
        """The copies go on their way (again)."""
        self.stage.queue.extend(self.copies)
        for item in self.copies:
            self.stage.say(f"replayed {names.letter(item)}")

    def do_cut(self, *ways: str) -> None:
        """Swallow what goes these ways."""
        for way in ways:
            sender, to = way.split(">")
            self.stage.cut.add((sender, to))

    def do_partition(self, *words: str) -> None:
        """Nothing passes between the groups."""
        groups = [part.split() for part in " ".join(words).split("|")]
        group_of = {name: number for number, group in enumerate(groups) for name in group}
        for name in self.stage.actors:
            for other in self.stage.actors:
                if group_of.get(name) != group_of.get(other):
                    self.stage.cut.add((name, other))

    def do_forge(self, way: str, kind: str, *words: str) -> None:
        """A message that nobody sent: of an earlier life, or by a program that is wrong.

        forge A>B Vote tT log I@T try N [transfer] · forge A>B TimeoutNow tT · forge A>B AppendReply tT match I
        """
        sender, to = (names.member_id(name) for name in way.split(">"))
        term = ConsensusTerm(int(words[0][1:]))
        content: AnyMessage
        match kind:
            case "Vote":
                index, last_term = words[2].split("@")
                boot = self.stage.actors[way.split(">", maxsplit=1)[0]].boot
                last = LogIndex(int(index)), ConsensusTerm(int(last_term))
                content = Vote(term, *last, boot, int(words[4]), "transfer" in words)
            case "TimeoutNow":
                content = TimeoutNow(term)
            case _:
                assert kind == "AppendReply", kind
                content = AppendReply(term, LogIndex(int(words[2])), BatchNumber(1))
        self.stage.post(Envelope(sender, to, LINEAGE, content))

    def do_wake(self, name: str, duration: str) -> None:
        """A member's clock goes on, and it takes a turn before its sockets are drained (P4.7)."""
        actor = self.stage.actors[name]
        actor.now = Instant(actor.now + micros(duration))
        self.stage.step(actor, [], drained=False)

    def do_heal(self) -> None:
        """Everything passes again."""
        self.stage.cut.clear()

    def do_lose(self, name: str, peer: str, evidence: str, closing: str = "") -> None:
        """A connection is lost."""
        assert evidence in {"fin", "refused", "timeout"}
        self.stage.lose(name, peer, evidence, closing=closing == "closing")  # type: ignore[arg-type]  # checked above

    def do_link(self, name: str, peer: str) -> None:
        """A connection stands."""
        self.stage.connect(name, peer)

    def do_beats(self, on: str) -> None:
        """Whether heartbeats are written down."""
        self.stage.show_beats = on == "on"

    # --- members ----------------------------------------------------------------------------------------------------

    def do_crash(self, name: str, keep: str = "") -> None:
        """A process ends; nobody notices."""
        self.stage.stop(name, keep=keep == "keep")

    def do_kill(self, name: str, keep: str = "") -> None:
        """A process ends and its connections with it."""
        self.stage.stop(name, keep=keep == "keep")
        for actor in self.stage.live():
            if (name, actor.name) not in self.stage.cut:
                self.stage.lose(actor.name, name, "fin")

    def do_restart(self, name: str) -> None:
        """A new life, linked with all that can be reached."""
        self.stage.start(name)
        for actor in self.stage.live():
            if actor.name != name and (name, actor.name) not in self.stage.cut:
                self.stage.connect(name, actor.name)

    def do_speaks(self, name: str, version: str) -> None:
        """The program is another one at the next start."""
        self.stage.actors[name].speaks = int(version)

    def do_wipe(self, name: str) -> None:
        """The disk of a member that is down is emptied."""
        actor = self.stage.actors[name]
        assert actor.raft is None, f"{name} lives"
        actor.disk = Disk(self.stage.configuration)

    def do_rewind(self, name: str, batches: str) -> None:
        """The disk is found as it was so many batches ago; the process must be down (or goes down with it)."""
        actor = self.stage.actors[name]
        if actor.raft is not None:
            self.stage.stop(name, keep=False)
        actor.disk = actor.past[-1 - int(batches)].copy()

    def do_disk(self, name: str, mode: str) -> None:
        """Whether writes complete by themselves."""
        self.stage.actors[name].manual_disk = mode == "manual"

    def do_persist(self, name: str) -> None:
        """The write in flight is durable."""
        self.stage.persist(name)

    # --- requests ---------------------------------------------------------------------------------------------------

    def do_propose(self, name: str, text: str, expected: str = "") -> None:
        """A command."""
        term = int(expected.removeprefix("expected=")) if expected else None
        self.stage.propose(name, text, term)

    def do_read(self, name: str) -> None:
        """A read index."""
        self.stage.token += 1
        self.stage.step(self.stage.actors[name], [ReadIndex(self.stage.token)])

    def do_transfer(self, name: str, target: str = "") -> None:
        """A transfer of the leadership."""
        self.stage.token += 1
        to = names.member_id(target) if target else None
        self.stage.step(self.stage.actors[name], [Transfer(self.stage.token, to)])

    def do_snapshot(self, name: str) -> None:
        """A snapshot of what is applied."""
        self.stage.snapshot(name)

    def do_newcomer(self, name: str) -> None:
        """A member that was not founded starts, linked with all that can be reached."""
        self.stage.join(name)
        for actor in self.stage.live():
            if actor.name != name and (name, actor.name) not in self.stage.cut:
                self.stage.connect(name, actor.name)

    def do_revive(self, name: str, old: str) -> None:
        """A restore or a forced recovery; `restart` starts it."""
        self.stage.revive(name, old)

    def do_change(self, name: str, *words: str) -> None:
        """A change of the members.

        change A add B [standby] [as C] [called C] [at C]
        change A promote B [witness] · demote B · remove B · replace B by C [witness]

        `as C`: B comes back at the name and address of C, whose disk is lost. `called C`, `at C`: it says that it has
        C's name, or C's address.
        """
        options = [word for word in words if word == "dry" or word.startswith("expected=")]
        kind, member, *rest = [word for word in words if word not in options]
        one = names.member_id(member)
        role: Literal["voter", "witness"] = "witness" if "witness" in rest else "voter"
        wish: Wish
        match kind:
            case "add":
                place = rest[rest.index("as") + 1] if "as" in rest else member
                label = rest[rest.index("called") + 1] if "called" in rest else place
                host = rest[rest.index("at") + 1] if "at" in rest else place
                seat = Seat(one, label, f"10.0.0.{host[1:]}:8369", standby="voter" if "standby" in rest else "no")
                wish = Add(seat, returns="as" in rest)
            case "promote":
                wish = Promote(one, role)
            case "demote":
                wish = Demote(one)
            case "remove":
                wish = Remove(one)
            case _:
                assert kind == "replace", kind
                wish = Replace(one, names.member_id(rest[1]), role)
        expected = next((LogIndex(int(word[9:])) for word in options if word != "dry"), None)
        self.stage.change(name, wish, expected, dry_run="dry" in options)

    # --- looking ----------------------------------------------------------------------------------------------------

    def do_status(self) -> None:
        """One line a member."""
        for actor in self.stage.actors.values():
            raft = actor.raft
            if raft is None:
                self.stage.say(f"{actor.name} down")
                continue
            serving = " serving" if raft.is_serving else ""
            self.stage.say(
                f"{actor.name} {raft.role}{serving} t{raft.term} follows {names.name_of(raft.leader)}"
                f" commit {raft.commit} last {raft.last_index} durable {raft.durable_index}"
            )

    def do_log(self, name: str) -> None:
        """What a member has applied."""
        self.stage.say(f"{name} holds {self.stage.actors[name].state().decode()!r}")

    def do_durable(self, name: str) -> None:
        """What a disk holds."""
        disk = self.stage.actors[name].disk
        snapshot = f" {names.entry(disk.snapshot)}" if disk.snapshot else ""
        self.stage.say(
            f"{name} disk #{disk.number} term {disk.hard_state.term} vote {names.name_of(disk.hard_state.vote)}"
            f"{snapshot} {names.entries(disk.entries)}"
        )

    def do_hearing(self, name: str) -> None:
        """Whom the members say that they don't hear."""
        for member, sight in self.stage.raft(name).sights().items():
            deaf = " ".join(sorted(names.name_of(one) for one in sight.unheard_by)) or "nobody"
            answers = "answers" if sight.answers else "does not answer"
            self.stage.say(f"{name}: {names.name_of(member)} {answers}, unheard by {deaf}")

    def do_queue(self) -> None:
        """What is under way."""
        for item in self.stage.queue:
            line = f"write #{item.number} of {item.member}" if isinstance(item, Write) else names.letter(item)
            self.stage.say(f"under way: {line}")

    # --- claims -----------------------------------------------------------------------------------------------------

    def do_expect(self, subject: str, *words: str) -> None:
        """What must be so.

        expect leader A|nobody              exactly this living member leads, in the highest term of all that lead
        expect A name=value …               role term commit last durable follows serving uses holds feature
        expect [no] message FILTER …        one is under way
        expect [no] said WORDS              a line of this block holds them
        expect disk A vote=B@T last=I@T     what is durable
        expect one-leader-a-term            over the whole script

        A `no` that could not be otherwise is an error: behind a quiet command nothing was said, and behind one that
        delivers all nothing is under way.
        """
        negated = subject == "no"
        if negated:
            subject, *rest = words
            words = tuple(rest)
        match subject:
            case "leader":
                found = self.leader()
                require(found == words[0], f"leader is {found}")
            case "message":
                fits = passes(list(words))
                require(not (self.is_settled and negated), "the last command has delivered everything")
                there = any(not isinstance(item, Write) and fits(item) for item in self.stage.queue)
                require(there != negated, "under way" if there else "not under way")
            case "said":
                text = " ".join(words)
                require(self.is_heard or not negated, "the last command was quiet: nothing that it did was heard")
                there = any(text in " ".join(line.split()) for line in self.stage.lines)
                require(there != negated, "said" if negated else "not said")
            case "one-leader-a-term":
                double = {term: sorted(who) for term, who in self.stage.leaders.items() if len(who) > 1}
                require(not double, f"two leaders in one term: {double}")
            case "disk":
                self.expect_disk(words[0], words[1:])
            case _:
                self.expect_member(subject, words)

    def leader(self) -> str:
        """Who leads in the highest term."""
        leading = [actor for actor in self.stage.live() if actor.raft is not None and actor.raft.role == "leader"]
        if not leading:
            return "nobody"
        return max(leading, key=lambda actor: self.stage.raft(actor.name).term).name

    def expect_member(self, name: str, words: tuple[str, ...]) -> None:
        """Claims on a living member."""
        raft, actor = self.stage.raft(name), self.stage.actors[name]
        facts = {
            "role": raft.role,
            "term": raft.term,
            "commit": raft.commit,
            "last": raft.last_index,
            "durable": raft.durable_index,
            "follows": names.name_of(raft.leader),
            "serving": "yes" if raft.is_serving else "no",
            "feature": raft.feature,
            "uses": ",".join(names.seats(raft.configuration)[1:-1].split()),
            "holds": actor.state().decode().replace(" ", ","),
        }
        for word in words:
            key, _, value = word.partition("=")
            require(str(facts[key]) == value, f"{name} has {key}={facts[key]}")

    def expect_disk(self, name: str, words: tuple[str, ...]) -> None:
        """Claims on what is durable."""
        disk = self.stage.actors[name].disk
        last = LogIndex(disk.last_index)
        facts = {
            "vote": f"{names.name_of(disk.hard_state.vote)}@{disk.hard_state.term}",
            "last": names.place(last, disk.term_at(last) or 0),
        }
        for word in words:
            key, _, value = word.partition("=")
            require(facts[key] == value, f"{name} has {key}={facts[key]}")


def require(so: bool, otherwise: str) -> None:
    """Fail with what is so instead."""
    if not so:
        raise AssertionError(otherwise)
