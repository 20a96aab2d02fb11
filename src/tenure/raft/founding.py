"""Founding (P1.2): how a list of names becomes a cluster with one lineage, before there is any term.

Idea. The first-listed member proposes one record; everybody makes it durable as *pending*; when ALL have said so,
the first-listed makes it *sealed* and tells the rest. Only sealed members vote. A majority would not do: a member whose
disk was emptied in between could then vote twice under one name.

States: `empty` → `pending` → `sealed`; never back, except that a pending record may be replaced by another pending one
when all listed members are reachable and none is sealed. Members are addressed by name here, because ids are what is
being found out. The driver keeps this machine for life: a sealed one answers those who come late.

Who joins a sealed cluster (`--join`) founds nothing: it lists nobody, says nothing here, and is sealed by what the
cluster answers when it is added (`FoundJoined`, P7).
"""

from collections.abc import Callable, Sequence
from typing import Final, Literal

from msgspec import Struct

from tenure.base.chance import Rng
from tenure.base.ids import LogIndex, MemberId, Nonce
from tenure.base.instants import MS, NEVER, Instant, WallMs, after
from tenure.raft.entries import Configuration, Seat, voters_max

hello_every_us: Final = 100 * MS
heard_within_us: Final = 1_000 * MS
stamp_rest_us: Final = 2 * MS
"""A founding ends no sooner than this after its stamp (P2.1)."""

State = Literal["empty", "pending", "sealed"]


class Record(Struct, frozen=True):
    """What is founded: the first nonce of the lineage, who belongs to it, and the first stamp of terms (P2.1)."""

    lineage: Nonce
    configuration: Configuration
    stamp: int

    def holds(self, member: MemberId) -> bool:
        """Whether the record names this id."""
        return self.configuration.seat(member) is not None


class Listed(Struct, frozen=True):
    """One entry of `--cluster`: a name, where its peers reach it, and whether it votes without state (P8)."""

    name: str
    peer: str
    role: Literal["voter", "witness"] = "voter"

    def __str__(self) -> str:
        """As an operator writes it."""
        return f"{self.name}={self.peer}" + ("/witness" if self.role == "witness" else "")


class FoundHello(Struct, frozen=True, array_like=True, tag="fh"):
    """Who I am, whom I was told to found with, and how far I am. A sealed member shows its record."""

    name: str
    member: MemberId
    listed: tuple[Listed, ...]
    state: State
    record: Record | None


class FoundPropose(Struct, frozen=True, array_like=True, tag="fp"):
    """From the first-listed: make this durable as pending."""

    record: Record


class FoundAck(Struct, frozen=True, array_like=True, tag="fa"):
    """The record with this lineage is durable as pending at `member`."""

    member: MemberId
    lineage: Nonce


class FoundSeal(Struct, frozen=True, array_like=True, tag="fs"):
    """All have acknowledged: the record is sealed."""

    record: Record


FoundingMessage = FoundHello | FoundPropose | FoundAck | FoundSeal


class Stored(Struct, frozen=True):
    """What the store holds of the founding."""

    state: State
    record: Record | None


class Persist(Struct, frozen=True):
    """To be made durable; then `FoundPersisted` with the same value. `lineage`: all of it, if it has gone on."""

    state: Literal["pending", "sealed"]
    record: Record
    lineage: tuple[Nonce, ...] = ()


class FoundReceived(Struct, frozen=True):
    """A founding message came from the member that calls itself `name` in its handshake."""

    name: str
    message: FoundingMessage


class FoundPersisted(Struct, frozen=True):
    """A `Persist` is durable."""

    state: Literal["pending", "sealed"]
    record: Record


class FoundJoined(Struct, frozen=True):
    """A cluster has taken this member in: what it was founded with, and its lineage by now."""

    record: Record
    lineage: tuple[Nonce, ...]


FoundingInput = FoundReceived | FoundPersisted | FoundJoined


class FoundingReady(Struct, frozen=True):
    """What follows: messages by name, one write, and where the founding stands.

    `refused`: why this member can't found with the others, in words for the operator; it goes on trying, since the
    others may be mended. `is_stranger`: the reason is that a founded cluster doesn't know this data directory (any
    more): trying changes nothing. `sealed` is set as soon as the sealed record is durable here.
    """

    send: tuple[tuple[str, FoundingMessage], ...] = ()
    persist: Persist | None = None
    sealed: Record | None = None
    missing: tuple[str, ...] = ()
    refused: str | None = None
    is_stranger: bool = False
    deadline: Instant = NEVER


class Founding:
    """One member's part in the founding."""

    def __init__(
        self,
        me: Listed,
        member: MemberId,
        listed: tuple[Listed, ...],
        stored: Stored,
        rng: Rng,
        stamp: Callable[[WallMs], int | str],
    ) -> None:
        """`stamp` gives the first stamp of terms for a wall clock, or says why it refuses (P2.2). `listed` is empty for
        who joins, and may be for who is sealed.
        """
        assert not listed or me in listed
        assert len(listed) <= voters_max
        self._me = me
        self._member = member
        self._listed = listed
        self._stored = stored
        self._rng = rng
        self._stamp = stamp
        self._writing: Persist | None = None
        self._handed: Persist | None = None
        self._hellos: dict[str, tuple[FoundHello, Instant]] = {}
        self._acks: set[MemberId] = set()
        self._proposed: Record | None = None
        self._proposed_at = Instant(0)
        self._hello_due = Instant(0)
        self._refused: str | None = None
        self._is_stranger = False
        self._send: list[tuple[str, FoundingMessage]] = []

    @property
    def state(self) -> State:
        """How far this member is, durably."""
        return self._stored.state

    @property
    def record(self) -> Record | None:
        """The record that this member holds durably."""
        return self._stored.record

    @property
    def listed(self) -> tuple[Listed, ...]:
        """Whom this member was told to found with."""
        return self._listed

    def step(self, inputs: Sequence[FoundingInput], now: Instant, wall: WallMs, drained: bool = True) -> FoundingReady:
        """Take what came, then, if the sockets are drained, what time demands."""
        for one in inputs:
            match one:
                case FoundReceived():
                    self._receive(one.name, one.message, now)
                case FoundPersisted():
                    self._persisted(one, now)
                case FoundJoined():
                    if self._stored.state == "empty" and not self._listed:
                        self._writing = Persist("sealed", one.record, one.lineage)
        if self._stored.state != "sealed":
            if self._is_first and self._writing is None:
                self._lead(now, wall)
            if drained and now >= self._hello_due:
                self._hello_due = after(now, hello_every_us)
                self._say_hello(now)
        return self._finish(now)

    @property
    def _is_first(self) -> bool:
        return bool(self._listed) and self._listed[0] == self._me

    # --- everybody

    def _hello(self) -> FoundHello:
        record = self._stored.record if self._stored.state == "sealed" else None
        return FoundHello(self._me.name, self._member, self._listed, self._stored.state, record)

    def _say_hello(self, now: Instant) -> None:
        for other in self._listed:
            if other != self._me:
                self._send.append((other.name, self._hello()))
        if self._proposed is not None and self._stored.record == self._proposed:
            self._propose(now)

    def _receive(self, name: str, message: FoundingMessage, now: Instant) -> None:
        if not self._listed and self._stored.state != "sealed":
            return  # who joins is told by whom it asks, and by nobody else
        match message:
            case FoundHello():
                self._on_hello(name, message, now)
            case FoundPropose():
                self._on_propose(name, message.record)
            case FoundAck():
                if self._proposed is not None and message.lineage == self._proposed.lineage:
                    self._acks.add(message.member)
            case FoundSeal():
                self._meet_sealed(name, message.record, None)

    def _on_hello(self, name: str, hello: FoundHello, now: Instant) -> None:
        if self._stored.state == "sealed":
            if hello.state != "sealed":
                self._send.append((name, self._hello()))
            return
        if hello.state == "sealed" and hello.record is not None:
            self._meet_sealed(name, hello.record, hello.member)
            return
        self._hellos[hello.name] = (hello, now)

    def _meet_sealed(self, name: str, record: Record, sealed_member: MemberId | None) -> None:
        """A sealed member's record seals whoever it names by id; any other is refused (P1.2).

        Another pending record than the sealed one may be ours when the first-listed was wiped after it had sealed. It
        gives way only to the living word of a member that both name: that one will never acknowledge ours. A mere
        `FoundSeal` may be old mail, from before ours was sealed elsewhere.
        """
        if self._stored.state == "sealed" or self._writing is not None:
            return
        if not record.holds(self._member):
            self._is_stranger = True
            self._refused = (
                f"{name} belongs to a founded cluster (lineage {record.lineage}) that doesn't know this data directory "
                f"(member id {self._member}): a wiped or new member can't take part under an old name. "
                "Start it with --join, or replace the old one with `tenure member replace`"
            )
            return
        held = self._stored.record
        outlived = held is not None and sealed_member is not None and held.holds(sealed_member)
        if held != record and not outlived:
            self._is_stranger = True
            self._refused = (
                f"{name}'s record names this member, but its own disk no longer holds what it acknowledged: the disk "
                "went back. Replace this member with `tenure member replace`"
            )
            return
        self._writing = Persist("sealed", record)

    def _on_propose(self, name: str, record: Record) -> None:
        if self._stored.state == "sealed" or self._writing is not None or name != self._listed[0].name:
            return
        seat = record.configuration.seat(self._member)
        named = tuple((seat.name, seat.peer, seat.role) for seat in record.configuration.seats)
        listed = tuple((one.name, one.peer, one.role) for one in self._listed)
        if seat is None or seat.name != self._me.name or named != listed:
            self._refused = f"{name} proposed a record that isn't of this member and its list"
            return
        if self._stored.record == record:
            self._send.append((name, FoundAck(self._member, record.lineage)))
            return
        self._writing = Persist("pending", record)

    def _persisted(self, done: FoundPersisted, now: Instant) -> None:
        assert self._writing is not None
        assert (self._writing.state, self._writing.record) == (done.state, done.record)
        self._writing = None
        self._stored = Stored(done.state, done.record)
        self._refused = None
        if done.state == "sealed":
            self._tell_sealed(done.record)
        elif self._is_first:
            self._acks = {self._member}
            self._propose(now)
        else:
            self._send.append((self._listed[0].name, FoundAck(self._member, done.record.lineage)))

    def _tell_sealed(self, record: Record) -> None:
        for other in self._listed:
            if other != self._me:
                self._send.append((other.name, FoundSeal(record)))

    # --- the first-listed

    def _propose(self, now: Instant) -> None:
        record = self._proposed
        assert record is not None
        for seat in record.configuration.seats:
            if seat.id != self._member and seat.id not in self._acks:
                self._send.append((seat.name, FoundPropose(record)))

    def _lead(self, now: Instant, wall: WallMs) -> None:
        """Gather all, propose, seal when all have acknowledged."""
        record = self._proposed
        if record is not None and self._stored.record == record:
            everybody = {seat.id for seat in record.configuration.seats}
            if everybody <= self._acks:
                if now >= self._proposed_at + stamp_rest_us:
                    self._writing = Persist("sealed", record)
                return
        others = self._gathered(now)
        if others is None:
            return
        ids = {self._me.name: self._member} | {hello.name: hello.member for hello in others}
        if record is not None and all(ids[seat.name] == seat.id for seat in record.configuration.seats):
            return
        held = self._stored.record
        if held is not None and all(ids.get(seat.name) == seat.id for seat in held.configuration.seats):
            self._proposed, self._proposed_at = held, now  # go on with what a crash interrupted
            self._acks = {self._member}
            self._propose(now)
            return
        stamp = self._stamp(wall)
        if isinstance(stamp, str):
            self._refused = stamp
            return
        seats = tuple(Seat(ids[one.name], one.name, one.peer, one.role) for one in self._listed)
        nonce = Nonce(f"{self._rng.u64():016x}")
        self._proposed = Record(nonce, Configuration(LogIndex(0), seats), stamp)
        self._proposed_at = now
        self._acks = set()
        self._writing = Persist("pending", self._proposed)

    def _gathered(self, now: Instant) -> list[FoundHello] | None:
        """The hellos of all others, if all were heard lately and agree."""
        hellos = []
        for other in self._listed:
            if other == self._me:
                continue
            known = self._hellos.get(other.name)
            if known is None or now - known[1] > heard_within_us:
                return None
            if known[0].listed != self._listed:
                self._refused = self._unequal(known[0])
                return None
            hellos.append(known[0])
        if len({hello.member for hello in hellos} | {self._member}) != len(self._listed):
            self._refused = "two listed members show the same id: a data directory was copied"
            return None
        self._refused = None
        return hellos

    def _unequal(self, hello: FoundHello) -> str:
        return (
            f"unequal lists: {self._me.name} was started with {_shown(self._listed)}, "
            f"{hello.name} with {_shown(hello.listed)}. Start all of them with the same --cluster, in the same order"
        )

    def _disagreement(self, now: Instant) -> str | None:
        """Those who follow wait for the first-listed; they too should say that it will never propose to them."""
        if self._is_first or self._stored.state == "sealed":
            return None
        for hello, heard in self._hellos.values():
            if hello.listed != self._listed and now - heard <= heard_within_us:
                return self._unequal(hello)
        return None

    def _finish(self, now: Instant) -> FoundingReady:
        send, self._send = tuple(self._send), []
        sealed = self._stored.record if self._stored.state == "sealed" else None
        missing = tuple(
            other.name
            for other in self._listed
            if other != self._me
            and (other.name not in self._hellos or now - self._hellos[other.name][1] > heard_within_us)
        )
        deadline = NEVER
        if sealed is None and self._listed:
            deadline = self._hello_due
            if self._proposed is not None and self._proposed_at + stamp_rest_us > now:
                deadline = min(deadline, after(self._proposed_at, stamp_rest_us))
        write = self._writing if self._writing is not self._handed else None
        self._handed = self._writing
        refused = self._refused or self._disagreement(now)
        is_stranger = self._is_stranger and sealed is None
        return FoundingReady(send, write, sealed, () if sealed else missing, refused, is_stranger, deadline)


def _shown(listed: tuple[Listed, ...]) -> str:
    return ",".join(str(one) for one in listed)
