"""One member between its transport, its founding and its engine: who may talk to us, and who hears what they say.

Before the record is sealed only founding messages count, and peers go by their names; from then on the engine takes
part, and its frames go by ids. The founding machine stays for life, to answer those who come late (P1.2).
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from tenure.base.clock import Clock
from tenure.base.ids import BatchNumber, Boot, MemberId, Nonce
from tenure.base.lineages import relation, why_not
from tenure.engines.native.driver import NativeEngine
from tenure.engines.native.founder import Founder, FoundingStore
from tenure.engines.native.inputs import PeerFrame, Stage
from tenure.engines.native.replica import Replica
from tenure.raft.entries import Configuration
from tenure.raft.founding import FoundAck, FoundHello, Founding, FoundPropose, FoundSeal, Record, State
from tenure.raft.messages import Evidence
from tenure.raft.ready import Batch
from tenure.wire.frames import Hello
from tenure.wire.frames import PeerFrame as AnyPeerFrame


class Links(Protocol):
    """What a member needs of the transport."""

    def send(self, peer: str, frame: AnyPeerFrame) -> None:
        """Queue a frame for a member's id or name; dropped if the link is down."""
        ...

    def send_now(self, frames: Sequence[tuple[str, AnyPeerFrame]]) -> None:
        """Write these frames, in order; those whose link is down are dropped."""
        ...

    def set_peers(self, peers: Mapping[str, str]) -> None:
        """Whom to dial."""
        ...


class Begin(Protocol):
    """Makes what a founded member needs; called once, with the sealed record."""

    def __call__(self, record: Record) -> "tuple[Replica, SubmitsBatches]":
        """The replica and its disk."""
        ...


class SubmitsBatches(Protocol):
    """The disk's thread."""

    def submit(self, batch: Batch) -> None:
        """Make it durable."""
        ...

    def stage(self, stage: Stage) -> None:
        """Make it durable in between."""
        ...


class Tells(Protocol):
    """Hears what an operator should know."""

    def founding(self, missing: tuple[str, ...], refused: str | None) -> None:
        """Who is waited for, and why it can't go on."""
        ...

    def lost(self, text: str) -> None:
        """What this directory was a part of doesn't know it any more: it can only come back under a new id (P1)."""
        ...

    def joining(self, waits: tuple[str, ...], obstacle: str | None) -> None:
        """Who is asked to take us in, and what stands in the way."""
        ...

    def sealed(self, record: Record) -> None:
        """Part of a cluster."""
        ...

    def members(self, configuration: Configuration) -> None:
        """The members have changed."""
        ...

    def rejected(self, text: str) -> None:
        """Somebody was turned away, or turned us away."""
        ...

    def forked(self, how: str, text: str) -> None:
        """A cluster was met that came out of ours, or out of the same past (P1.4): `newer` or `forked`."""
        ...

    def link(self, peer: str, state: str) -> None:
        """A peer came or went."""
        ...


class Member:
    """The transport's listener."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        engine: NativeEngine,
        founding: Founding,
        store: FoundingStore,
        me: Hello,
        begin: Begin,
        tells: Tells,
    ) -> None:
        """`me` is our hello as it is before founding; lineage, state and `told` are filled in as they become known."""
        self._engine = engine
        self._founding = founding
        self._me = me
        self._begin = begin
        self._tells = tells
        self._up: dict[MemberId, Hello] = {}
        self._names: dict[MemberId, str] = {}
        self._links: Links | None = None
        self._record: Record | None = None
        self._members: Configuration | None = None
        self._revived = False
        self._founder = Founder(loop, clock, founding, store, self._say, self._sealed, self._tell)

    def start(self, links: Links) -> None:
        """The transport listens: dial the others and go on where the last life stopped."""
        self._links = links
        links.set_peers({one.name: one.peer for one in self._founding.listed if one.name != self._me.name})
        self._founder.start()

    def joins(self, waits: tuple[str, ...], obstacle: str | None) -> None:
        """We ask a cluster to take us in: whom, and what stands in the way."""
        self._engine.beginning = "joining"
        self._engine.missing, self._engine.obstacle = waits, obstacle
        self._tells.joining(waits, obstacle)

    def joined(self, record: Record, lineage: tuple[Nonce, ...]) -> None:
        """The cluster has taken us in: sealed as soon as that is durable."""
        self._founder.joined(record, lineage)

    def stop(self) -> None:
        """The process ends."""
        self._founder.stop()

    def identify(self, other: MemberId | None) -> Hello:
        """Our hello towards `other`."""
        me, record, replica = self._me, self._record, self._engine.replica
        told = BatchNumber(0)
        if replica is not None and other is not None:
            told = replica.raft.known_batch(other)
        lineage: tuple[Nonce, ...] = ()
        if replica is not None:
            lineage = replica.lineage
        elif record is not None:
            lineage = (record.lineage,)
        state: State = self._founding.state
        return Hello(
            me.member,
            me.name,
            me.boot,
            lineage,
            state,
            me.cluster,
            me.api,
            me.peer,
            me.speaks,
            told,
            me.nonce,
            replica.raft.feature if replica is not None else 1,
        )

    # --- Listener ---------------------------------------------------------------------------------------------------

    def judge(self, hello: Hello) -> str | None:
        """Only members of one lineage talk (P1.4); before founding everybody listed may.

        A seat in our own configuration isn't asked for: we may be the one that is behind (P7.3). Who was removed comes
        in to hear that.
        """
        replica = self._engine.replica
        if replica is None or not hello.lineage:
            return None
        why = why_not(hello.name, replica.lineage, hello.lineage)
        if why is not None:
            found = relation(replica.lineage, hello.lineage)
            if found in {"forked", "newer"}:
                if found == "newer" or not replica.is_left_behind:
                    replica.forked = why
                replica.is_left_behind = replica.is_left_behind or found == "newer"
                self._tells.forked(found, why)
            return why
        return None

    def on_frames(self, peer: MemberId, frames: list[AnyPeerFrame]) -> None:
        """Founding messages to the founding, all else to the engine."""
        for_engine: list[PeerFrame] = []
        for frame in frames:
            if isinstance(frame, FoundHello | FoundPropose | FoundAck | FoundSeal):
                self._founder.receive(self._names.get(peer, peer), frame)
            else:
                for_engine.append(frame)
        if for_engine:
            self._engine.on_frames(peer, for_engine)

    def on_up(self, peer: MemberId, hello: Hello) -> None:
        """A peer is here."""
        self._up[peer] = hello
        self._names[peer] = hello.name
        if self._members is not None and self._members.seat(hello.member) is None and not hello.lineage:
            # It may listen, so that it hears why it is refused; whoever reads our log should hear it as well (P1.2).
            self._tells.rejected(
                f"{hello.name} is here with member id {hello.member}, which has no seat in this cluster: its data "
                "directory is not the one that it was founded with. It takes no part; its own log says what to do"
            )
        else:
            self._tells.link(hello.name, "up")
        self._dial()
        self._link_up(hello)

    def on_open(self, peer: MemberId, hello: Hello) -> None:
        """We may speak to a peer: it is known under its name. Who has left while it was away hears it first (P7)."""
        self._names[peer] = hello.name
        replica = self._engine.replica
        said = replica.raft.farewell(peer) if replica is not None and not replica.stopped else None
        if said is not None and self._links is not None:
            self._tells.rejected(f"{hello.name} ({peer}) was removed from this cluster; it is told so")
            self._links.send(peer, said)

    def on_lost(self, peer: MemberId, boot: Boot, evidence: Evidence, closing: bool) -> None:
        """A peer is gone."""
        hello = self._up.get(peer)
        if hello is not None and hello.boot == boot:
            del self._up[peer]
            self._dial()
        self._tells.link(self._names.get(peer, peer), "closing" if closing else evidence)
        self._engine.on_lost(peer, boot, evidence, closing)

    def on_rtt(self, peer: MemberId, rtt_us: int) -> None:
        """A round trip was measured."""
        self._engine.on_rtt(peer, rtt_us)

    def on_rejected(self, text: str) -> None:
        """For the operator."""
        self._tells.rejected(text)

    # --- founding ---------------------------------------------------------------------------------------------------

    def _say(self, name: str, message: FoundHello | FoundPropose | FoundAck | FoundSeal) -> None:
        if self._links is not None:
            self._links.send(name, message)

    def _tell(self, missing: tuple[str, ...], refused: str | None, is_stranger: bool) -> None:
        self._engine.missing, self._engine.obstacle = missing, refused
        self._tells.founding(missing, refused)
        if is_stranger and refused is not None:
            self._tells.lost(refused)

    def _sealed(self, record: Record) -> None:
        """We are part of a cluster: from now on by ids, and with the engine."""
        assert self._links is not None
        self._record = record
        self._engine.missing, self._engine.obstacle = (), None
        self._tells.sealed(record)
        replica, disk = self._begin(record)
        self._members = replica.raft.configuration
        self._revived = len(replica.lineage) > 1
        self._dial()
        self._engine.on_members = self._members_changed
        self._engine.begin(replica, self._links, disk)
        for hello in self._up.values():
            self._link_up(hello)

    def _members_changed(self, configuration: Configuration) -> None:
        self._members = configuration
        self._tells.members(configuration)
        self._dial()

    def _dial(self) -> None:
        """Who has a seat, by name: a wiped member at a known address must hear from the sealed ones why it is refused
        (P1.2); what is meant for the old id finds no route to it. And who dialed us without a seat that we know of: it
        may know more than we do, or have to hear that it was removed (P7).

        After a restore or a recovery also who is listed without a seat: should the past, or a sibling, still run at
        one of the old addresses, this is how both sides hear of it (P1.4).
        """
        if self._members is None or self._links is None:
            return
        me = (self._me.member, self._me.peer)  # our own address may be that of what we were before our disk was lost
        peers = {seat.name: seat.peer for seat in self._members.seats if seat.id not in me and seat.peer not in me}
        for hello in self._up.values():
            if self._members.seat(hello.member) is None and hello.peer not in peers.values():
                peers[hello.member] = hello.peer
        if self._revived:
            for part in self._me.cluster:
                name, _, peer = part.partition("=")
                if name != self._me.name and name not in peers and peer not in (self._me.peer, *peers.values()):
                    peers[name] = peer
        self._links.set_peers(peers)

    def _link_up(self, hello: Hello) -> None:
        """To the engine, if it has begun; only members with a seat count there."""
        self._engine.on_up(hello.member, hello.boot, hello.told, hello.speaks, hello.api or None, feature=hello.feature)
