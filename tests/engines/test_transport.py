"""Stories about real connections on loopback, on asyncio's loop and on uvloop."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import pytest
import uvloop

from tenure.base.ids import BatchNumber, Boot, ConsensusTerm, MemberId, Nonce
from tenure.base.instants import Instant, WallMs
from tenure.engines.native.transport import Transport, default_limits
from tenure.engines.native.transport_handshake import Accepting, Dialing
from tenure.engines.native.transport_hub import Limits
from tenure.leadership.engine import KvGet, Refused
from tenure.raft.founding import FoundAck
from tenure.raft.messages import Envelope, Evidence, TimeoutNow
from tenure.wire.frames import (
    Call,
    CallReply,
    Decoder,
    Hello,
    Introduce,
    PeerFrame,
    Ping,
    Proof,
    Reject,
    Taken,
    Welcome,
    encode,
    frame_bytes_max,
    handshake_bytes_max,
)

LINEAGE = Nonce("1" * 16)
Story = Callable[[], Coroutine[Any, Any, None]]


class BootTime:
    def now(self) -> Instant:
        return Instant(time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000)

    def wall(self) -> WallMs:
        return WallMs(time.time_ns() // 1_000_000)


@dataclass
class Heard:
    """A listener that remembers, and lets a test wait for what it wants to have heard."""

    lineage: Nonce = LINEAGE
    frames: list[tuple[MemberId, PeerFrame]] = field(default_factory=list)
    up: list[tuple[MemberId, Hello]] = field(default_factory=list)
    open: list[MemberId] = field(default_factory=list)
    lost: list[tuple[MemberId, Boot, Evidence, bool]] = field(default_factory=list)
    rtts: list[tuple[MemberId, int]] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def judge(self, hello: Hello) -> str | None:
        if hello.lineage != (self.lineage,):
            return f"{hello.name} belongs to another cluster (lineage {hello.lineage})"
        return None

    def on_frames(self, peer: MemberId, frames: list[PeerFrame]) -> None:
        self.frames.extend((peer, frame) for frame in frames)
        self.order.extend("frame" for _ in frames)
        self.changed.set()

    def on_up(self, peer: MemberId, hello: Hello) -> None:
        self.up.append((peer, hello))
        self.order.append("up")
        self.changed.set()

    def on_open(self, peer: MemberId, hello: Hello) -> None:
        self.open.append(peer)
        self.changed.set()

    def on_lost(self, peer: MemberId, boot: Boot, evidence: Evidence, closing: bool) -> None:
        self.lost.append((peer, boot, evidence, closing))
        self.order.append("lost")
        self.changed.set()

    def on_rtt(self, peer: MemberId, rtt_us: int) -> None:
        self.rtts.append((peer, rtt_us))
        self.changed.set()

    def on_rejected(self, text: str) -> None:
        self.rejected.append(text)
        self.changed.set()

    async def until(self, wanted: Callable[[], object]) -> None:
        while not wanted():
            self.changed.clear()
            await self.changed.wait()


def identity(number: int, boot: str = "b", lineage: Nonce = LINEAGE) -> Hello:
    return Hello(MemberId(f"{number:016x}"), f"m{number}", Boot(f"{boot}{number}"), (lineage,))


@dataclass
class Member:
    heard: Heard
    transport: Transport
    port: int
    me: Hello

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def dial(self, *others: "Member") -> None:
        self.transport.set_peers({other.me.member: other.address for other in others})


async def member(
    me: Hello, secret: bytes | None = b"s", limits: Limits = default_limits, port: int = 0, heard: Heard | None = None
) -> Member:
    heard = heard if heard is not None else Heard()

    def identify(other: MemberId | None) -> Hello:
        return me if other is None else msgspec.structs.replace(me, told=BatchNumber(int(other, 16) * 10))

    transport = Transport(identify, secret, heard, BootTime(), limits)
    _, port = await transport.start("127.0.0.1", port)
    return Member(heard, transport, port, me)


def note(sender: Hello, to: Hello, term: int) -> Envelope:
    return Envelope(sender.member, to.member, LINEAGE, TimeoutNow(ConsensusTerm(term)))


@pytest.fixture(params=["asyncio", "uvloop"])
def tell(request: pytest.FixtureRequest) -> Callable[[Story], None]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run(story: Story) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.wait_for(_leaving_nothing(story), 30))

    return run


async def _leaving_nothing(story: Story) -> None:
    await story()
    await asyncio.sleep(0)
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task() and "link" in task.get_name()]
    assert left == []


Tell = Callable[[Story], None]


async def pair(**more: Any) -> tuple[Member, Member]:
    one, two = await member(identity(1), **more), await member(identity(2), **more)
    one.dial(two)
    await two.heard.until(lambda: two.heard.up)
    await one.heard.until(lambda: one.heard.open)
    return one, two


async def end(*members: Member) -> None:
    for one in members:
        await one.transport.stop()


def test_both_prove_the_secret_and_say_what_they_know_of_each_other(tell: Tell) -> None:
    async def story() -> None:
        one, two = await pair()
        two.dial(one)
        await one.heard.until(lambda: one.heard.up)
        assert two.heard.up == [(one.me.member, msgspec.structs.replace(two.heard.up[0][1], told=20))]
        assert one.heard.up[0][1].told == 10
        assert one.heard.open == [two.me.member]
        await end(one, two)

    tell(story)


def test_frames_arrive_complete_and_in_order_whatever_their_size(tell: Tell) -> None:
    async def story() -> None:
        one, two = await pair()
        sent: list[PeerFrame] = [note(one.me, two.me, term) for term in range(2_000)]
        sent += [Call(number, KvGet("x" * size)) for number, size in enumerate([0, 1, 70_000, 3, 1_000_000, 5])]
        sent += [note(one.me, two.me, 1), CallReply(1, Refused("no_quorum", "…")), FoundAck(one.me.member, LINEAGE)]
        for frame in sent:
            one.transport.send(two.me.member, frame)
        await two.heard.until(lambda: len(two.heard.frames) == len(sent))
        assert [frame for _, frame in two.heard.frames] == sent
        assert {peer for peer, _ in two.heard.frames} == {one.me.member}
        await end(one, two)

    tell(story)


def test_what_is_flushed_by_hand_leaves_once(tell: Tell) -> None:
    async def story() -> None:
        one, two = await pair()
        one.transport.send("m2", note(one.me, two.me, 1))
        one.transport.flush()
        one.transport.send_encoded("m2", encode(note(one.me, two.me, 2)))
        await two.heard.until(lambda: len(two.heard.frames) == 2)
        one.transport.send("m2", note(one.me, two.me, 3))
        await two.heard.until(lambda: len(two.heard.frames) == 3)
        assert [frame.message.term for _, frame in two.heard.frames if isinstance(frame, Envelope)] == [1, 2, 3]
        await end(one, two)

    tell(story)


def test_a_member_with_another_secret_gets_nowhere_and_both_sides_say_so(tell: Tell) -> None:
    async def story() -> None:
        one, two = await member(identity(1), b"right"), await member(identity(2), b"wrong")
        one.dial(two)
        await one.heard.until(lambda: one.heard.rejected)
        await two.heard.until(lambda: two.heard.rejected)
        assert "another cluster secret" in one.heard.rejected[0]
        assert "another cluster secret" in two.heard.rejected[0]
        assert not two.heard.up
        assert not one.heard.open
        await end(one, two)

    tell(story)


def test_a_dialer_that_skips_the_check_of_the_acceptor_is_still_asked_for_its_own_proof(tell: Tell) -> None:
    async def story() -> None:
        one = await member(identity(1), b"right")
        reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
        dialing = Dialing(lambda _: identity(2), b"wrong", "n")
        writer.write(encode(dialing.introduce()))
        await _frame(reader, Welcome)
        writer.write(encode(Proof(BatchNumber(0), b"guess")))
        answer = await _frame(reader, Reject)
        assert "another cluster secret" in answer.reason
        assert not one.heard.up
        writer.close()
        await end(one)

    tell(story)


def test_a_proof_is_good_for_one_connection_only(tell: Tell) -> None:
    """A recorded handshake is replayed word for word: the acceptor's nonce is another, so the proof is wrong."""

    async def story() -> None:
        one = await member(identity(1), b"s")
        reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
        dialing = Dialing(lambda _: identity(2), b"s", "n")
        introduce = dialing.introduce()
        writer.write(encode(introduce))
        answer = dialing.welcomed(await _frame(reader, Welcome), lambda _: None)
        assert not isinstance(answer, Reject)
        writer.write(encode(answer[1]))
        await _frame(reader, Taken)
        replayed_reader, replayed = await asyncio.open_connection("127.0.0.1", one.port)
        replayed.write(encode(introduce))
        await _frame(replayed_reader, Welcome)
        replayed.write(encode(answer[1]))
        await _frame(replayed_reader, Reject)
        assert len(one.heard.up) == 1
        writer.close()
        replayed.close()
        await end(one)

    tell(story)


def test_an_acceptors_proof_does_not_serve_a_dialer() -> None:
    hello = identity(1)
    dialing = Dialing(lambda _: hello, b"s", "n")
    accepting = Accepting(dialing.introduce(), lambda _: identity(2), b"s", "o")
    mirrored = accepting.proved(Proof(BatchNumber(0), accepting.welcome.proof), lambda _: None, identity(2))
    assert isinstance(mirrored, Reject)


@pytest.mark.parametrize("who", ["dialer", "acceptor"])
def test_one_secret_on_one_side_only_is_refused_by_name(tell: Tell, who: Literal["dialer", "acceptor"]) -> None:
    async def story() -> None:
        one = await member(identity(1), b"s" if who == "dialer" else None)
        two = await member(identity(2), None if who == "dialer" else b"s")
        one.dial(two)
        await one.heard.until(lambda: one.heard.rejected)
        assert "secret" in one.heard.rejected[0]
        assert not two.heard.up
        await end(one, two)

    tell(story)


def test_without_a_secret_nothing_is_proved_and_all_else_works(tell: Tell) -> None:
    async def story() -> None:
        one, two = await pair(secret=None)
        one.transport.send(two.me.member, note(one.me, two.me, 1))
        await two.heard.until(lambda: two.heard.frames)
        await end(one, two)

    tell(story)


def test_a_member_of_another_lineage_is_refused_with_the_listeners_reason(tell: Tell) -> None:
    async def story() -> None:
        foreign = Nonce("2" * 16)
        one = await member(identity(1, lineage=foreign), heard=Heard(foreign))
        two = await member(identity(2))
        one.dial(two)
        await one.heard.until(lambda: one.heard.rejected)
        await two.heard.until(lambda: two.heard.rejected)
        assert "another cluster" in one.heard.rejected[0]
        assert "another cluster" in two.heard.rejected[0]
        assert not two.heard.up
        await end(one, two)

    tell(story)


def test_an_address_that_leads_to_somebody_else_is_not_used(tell: Tell) -> None:
    async def story() -> None:
        one, two = await member(identity(1)), await member(identity(2))
        one.transport.set_peers({identity(3).member: two.address})
        await one.heard.until(lambda: one.heard.rejected)
        assert "not 0000000000000003" in one.heard.rejected[0]
        one.transport.set_peers({one.me.member: one.address})
        await one.heard.until(lambda: any("this member itself" in text for text in one.heard.rejected))
        assert not one.heard.open
        await end(one, two)

    tell(story)


def test_a_copied_data_directory_is_named(tell: Tell) -> None:
    async def story() -> None:
        one, two = await member(identity(1, "b")), await member(identity(1, "c"))
        one.transport.set_peers({"m1": two.address})
        await one.heard.until(lambda: one.heard.rejected)
        assert "a data directory was copied" in one.heard.rejected[0]
        await end(one, two)

    tell(story)


def test_a_name_becomes_an_id_without_a_new_connection(tell: Tell) -> None:
    async def story() -> None:
        one, two = await member(identity(1)), await member(identity(2))
        one.transport.set_peers({"m2": two.address})
        await one.heard.until(lambda: one.heard.open)
        one.transport.set_peers({two.me.member: two.address})
        one.transport.send(two.me.member, note(one.me, two.me, 1))
        await two.heard.until(lambda: two.heard.frames)
        assert two.heard.order == ["up", "frame"]
        one.transport.set_peers({})
        await two.heard.until(lambda: two.heard.lost)
        assert not one.transport.is_open(two.me.member)
        await end(one, two)

    tell(story)


# --- loss


def test_a_crash_is_told_once_at_once_and_behind_all_frames(tell: Tell) -> None:
    async def story() -> None:
        one, two = await pair()
        for term in range(100):
            one.transport.send(two.me.member, note(one.me, two.me, term))
        one.transport.flush()
        await two.heard.until(lambda: len(two.heard.frames) == 100)
        await one.transport.stop(say_closing=False)
        await two.heard.until(lambda: two.heard.lost)
        assert two.heard.lost == [(one.me.member, one.me.boot, "fin", False)]
        assert two.heard.order == ["up", *["frame"] * 100, "lost"]
        assert not two.transport.is_up(one.me.member)
        await end(two)
        assert len(two.heard.lost) == 1

    tell(story)


def test_a_graceful_stop_says_closing_behind_everything_that_was_sent(tell: Tell) -> None:
    async def story() -> None:
        one, two = await pair()
        for term in range(5_000):
            one.transport.send(two.me.member, note(one.me, two.me, term))
        await one.transport.stop()
        await two.heard.until(lambda: two.heard.lost)
        assert two.heard.lost == [(one.me.member, one.me.boot, "fin", True)]
        assert len(two.heard.frames) == 5_000
        await end(two)

    tell(story)


def test_of_several_connections_only_the_last_ones_end_is_a_loss(tell: Tell) -> None:
    async def story() -> None:
        one = await member(identity(1))
        first, second = await _dialed(one, identity(2)), await _dialed(one, identity(2))
        first[1].close()
        second[1].write(encode(note(identity(2), one.me, 7)))
        await one.heard.until(lambda: one.heard.frames)
        assert one.heard.order == ["up", "frame"]
        second[1].close()
        await one.heard.until(lambda: one.heard.lost)
        assert one.heard.order == ["up", "frame", "lost"]
        await end(one)

    tell(story)


def test_a_new_life_of_a_peer_ends_the_old_one_first(tell: Tell) -> None:
    async def story() -> None:
        one = await member(identity(1))
        old = await _dialed(one, identity(2, "b"))
        new = await _dialed(one, identity(2, "c"))
        assert one.heard.order == ["up", "lost", "up"]
        assert one.heard.lost == [(identity(2).member, Boot("b2"), "fin", False)]
        for _, writer in (old, new):
            writer.close()
        await end(one)

    tell(story)


def test_a_link_comes_back_after_a_restart_of_the_peer(tell: Tell) -> None:
    async def story() -> None:
        one, two = await pair()
        await two.transport.stop(say_closing=False)
        again = await member(identity(2, "c"), port=two.port)
        await again.heard.until(lambda: again.heard.up)
        await one.heard.until(lambda: len(one.heard.open) == 2)
        one.transport.send(two.me.member, note(one.me, two.me, 1))
        await again.heard.until(lambda: again.heard.frames)
        await end(one, again)

    tell(story)


def test_a_silent_connection_is_half_open_and_then_a_refusal_proves_the_death(tell: Tell) -> None:
    async def story() -> None:
        limits = Limits(ping_every_ms=10, silence_max_ms=60, redial_max_ms=20)
        one = await member(identity(1), limits=limits)
        free = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = free.sockets[0].getsockname()[1]
        free.close()
        await free.wait_closed()
        _, writer = await _dialed(one, identity(2))
        await one.heard.until(lambda: one.heard.lost)
        assert one.heard.lost[0][2] == "timeout"
        one.transport.set_peers({identity(2).member: f"127.0.0.1:{port}"})
        await one.heard.until(lambda: len(one.heard.lost) == 2)
        assert one.heard.lost[1] == (identity(2).member, Boot("b2"), "refused", False)
        writer.close()
        await end(one)

    tell(story)


def test_an_acceptor_that_answers_no_pings_is_left_and_dialed_again(tell: Tell) -> None:
    async def story() -> None:
        dialed = 0

        async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal dialed
            dialed += 1
            accepting = Accepting(await _frame(reader, Introduce), lambda _: identity(2), b"s", "o")
            writer.write(encode(accepting.welcome))
            await _frame(reader, Proof)
            writer.write(encode(Taken()))
            while await reader.read(1000):
                pass
            writer.close()

        server = await asyncio.start_server(deaf, "127.0.0.1", 0)
        one = await member(identity(1), limits=Limits(ping_every_ms=10, silence_max_ms=50))
        one.transport.set_peers({identity(2).member: f"127.0.0.1:{server.sockets[0].getsockname()[1]}"})
        await one.heard.until(lambda: len(one.heard.open) >= 2)
        assert "pings" in one.heard.rejected[0]
        assert dialed >= 2
        await end(one)
        server.close()
        await server.wait_closed()

    tell(story)


def test_a_peer_that_does_not_read_is_reset_when_too_much_waits_for_it(tell: Tell) -> None:
    async def story() -> None:
        stop_reading = asyncio.Event()

        async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepting = Accepting(await _frame(reader, Introduce), lambda _: identity(2), b"s", "o")
            writer.write(encode(accepting.welcome))
            await _frame(reader, Proof)
            writer.write(encode(Taken()))
            await stop_reading.wait()
            writer.close()

        server = await asyncio.start_server(stuck, "127.0.0.1", 0)
        one = await member(identity(1), limits=Limits(send_bytes_max=1_000_000))
        one.transport.set_peers({identity(2).member: f"127.0.0.1:{server.sockets[0].getsockname()[1]}"})
        await one.heard.until(lambda: one.heard.open)
        piece = encode(Envelope(one.me.member, identity(2).member, LINEAGE, TimeoutNow(ConsensusTerm(1)))) * 10_000
        while not one.heard.rejected:
            one.transport.send_encoded("m2", piece)
            await asyncio.sleep(0)
        assert "bytes wait for it" in one.heard.rejected[0]
        stop_reading.set()
        await end(one)
        server.close()
        await server.wait_closed()

    tell(story)


# --- what comes from strangers


@pytest.mark.parametrize(
    ("garbage", "says"),
    [
        (b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", "too_large"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "too_large"),
        (b"\x00\x00\x00\x04\x01\xff\xff\xff", "undecodable"),
        (b"\x00\x00\x00\x01\x01", "empty"),
        (b"\x00\x00\x00\x04\x09\x91\xa2in", "protocol version 9"),
        ((handshake_bytes_max + 1).to_bytes(4) + b"\x01", "at most 4096"),
        (encode(Ping(1, 1)), "not expected"),
        (encode(note(identity(2), identity(1), 1)), "not expected"),
        (encode(Introduce(b"\xc1 no hello")), "hello"),
        (encode(Proof(BatchNumber(0), b"")), "not expected"),
    ],
)
def test_garbage_is_dropped_with_a_reason_and_the_member_goes_on(tell: Tell, garbage: bytes, says: str) -> None:
    async def story() -> None:
        one = await member(identity(1))
        reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
        writer.write(garbage)
        answer = await _frame(reader, Reject)
        assert says in answer.reason
        assert says in one.heard.rejected[0]
        assert await reader.read() == b""
        writer.close()
        two = await member(identity(2))
        two.dial(one)
        await one.heard.until(lambda: one.heard.up)
        await end(one, two)

    tell(story)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ((frame_bytes_max + 1).to_bytes(4) + b"\x01", "too_large"),
        (encode(note(identity(3), identity(1), 1)), "in the name of"),
        (encode(Proof(BatchNumber(0), b"")), "not expected"),
    ],
)
def test_a_peer_that_breaks_the_rules_is_dropped_behind_its_good_frames(tell: Tell, bad: bytes, says: str) -> None:
    async def story() -> None:
        one = await member(identity(1))
        _, writer = await _dialed(one, identity(2))
        writer.write(encode(note(identity(2), one.me, 1)) + bad + encode(note(identity(2), one.me, 2)))
        await one.heard.until(lambda: one.heard.lost)
        assert one.heard.order == ["up", "frame", "lost"]
        assert says in one.heard.rejected[0]
        writer.close()
        await end(one)

    tell(story)


def test_who_never_finishes_the_handshake_neither_stays_nor_keeps_others_out(tell: Tell) -> None:
    async def story() -> None:
        one = await member(identity(1), limits=Limits(unproved_max=4, handshake_timeout_ms=300))
        loris = [await asyncio.open_connection("127.0.0.1", one.port) for _ in range(10)]
        for _, writer in loris:
            writer.write(b"\x00")
        two = await member(identity(2))
        two.dial(one)
        await one.heard.until(lambda: one.heard.up)
        for reader, writer in loris:  # all are told to go, by their number or by their time
            assert isinstance(await _frame(reader, Reject), Reject)
            writer.close()
        await end(one, two)

    tell(story)


def test_the_same_rejection_is_told_once(tell: Tell) -> None:
    async def story() -> None:
        one = await member(identity(1))
        for _ in range(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            await _frame(reader, Reject)
            writer.close()
        assert len(one.heard.rejected) == 1
        await end(one)

    tell(story)


def test_round_trips_are_measured_for_each_peer(tell: Tell) -> None:
    async def story() -> None:
        one, two = await pair(limits=Limits(ping_every_ms=5))
        await one.heard.until(lambda: len(one.heard.rtts) >= 3)
        assert {peer for peer, _ in one.heard.rtts} == {two.me.member}
        assert all(rtt_us > 0 for _, rtt_us in one.heard.rtts)
        await end(one, two)

    tell(story)


def test_a_dial_that_is_given_up_at_the_moment_it_succeeds_leaves_nothing(tell: Tell) -> None:
    """Our own process stood still meanwhile. The loop closes that connection, and tells nobody that it ends."""

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        two = await member(identity(2))
        heard, limits = Heard(), Limits(dial_timeout_ms=50, handshake_timeout_ms=60, ping_every_ms=10)
        stalls = [2 * limits.dial_timeout_ms / 1000] * 2

        def identify(_: MemberId | None) -> Hello:
            ends = time.monotonic() + (stalls.pop() if stalls else 0)
            while time.monotonic() < ends:
                pass
            return identity(1)

        one = Transport(identify, b"s", heard, BootTime(), limits)
        await one.start("127.0.0.1", 0)
        one.set_peers({two.me.member: two.address})
        await heard.until(lambda: heard.open)
        await heard.until(lambda: len(heard.rtts) >= 10)  # longer than any handshake may take
        assert (stalls, heard.rejected) == ([], [])
        await one.stop()
        await end(two)

    errors: list[dict[str, Any]] = []
    tell(story)
    assert errors == []


def test_a_stop_while_nobody_answers_is_quick_and_leaves_nothing(tell: Tell) -> None:
    async def story() -> None:
        came = asyncio.Event()

        async def silent_peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            came.set()
            await reader.read()
            writer.close()

        silent = await asyncio.start_server(silent_peer, "127.0.0.1", 0)
        one = await member(identity(1))
        one.transport.set_peers({"m2": f"127.0.0.1:{silent.sockets[0].getsockname()[1]}", "m3": "127.0.0.1:1"})
        await came.wait()
        await end(one)
        silent.close()
        await silent.wait_closed()

    tell(story)


async def _frame(reader: asyncio.StreamReader, wanted: type[Any]) -> Any:
    decoder = Decoder(handshake_bytes_max)
    while True:
        size = await reader.readexactly(4)
        for frame in decoder.feed(size + await reader.readexactly(int.from_bytes(size))):
            assert isinstance(frame, wanted), f"{frame} instead of {wanted.__name__}"
            return frame


async def _dialed(to: Member, me: Hello) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that stands, with a plain socket at its dialing end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", to.port)
    dialing = Dialing(lambda _: me, b"s", "n")
    writer.write(encode(dialing.introduce()))
    answer = dialing.welcomed(await _frame(reader, Welcome), lambda _: None)
    assert not isinstance(answer, Reject), answer
    writer.write(encode(answer[1]))
    await _frame(reader, Taken)
    return reader, writer
