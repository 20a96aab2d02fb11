"""Nodes kept by the SDK's keeper: they do get what they want, and each check of them can fail."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from tenure.base.chance import SplitMix64
from tenure.base.ids import ElectionName, NodeId, Term
from tenure.base.instants import NEVER, Instant
from tenure.client import events as told
from tenure.client.dialer import Dialer
from tenure.client.keeper import KeeperCore, Settings
from tenure.engines.native.inputs import Asked, Effects, Input
from tenure.leadership.engine import AnyRequest, Keepalive, Lease
from tests.sim.clock import Clock
from tests.sim.host import Host
from tests.sim.keepers import Believed, KeeperNode
from tests.sim.keeping import Keeping
from tests.sim.observer import Broken
from tests.sim.plan import SECOND, Plan, draw
from tests.sim.run import Run
from tests.sim.streams import Stream
from tests.sim.world import World

OFFICE = ElectionName("office-0")


def calm(**changes: object) -> Plan:
    """Nothing fails."""
    plan = draw(3)
    still = replace(
        plan, voters=3, clients=0, nodes=2, watchers=0, elections=1, changing=False, founding=False, weights={},
        latency_us=200, jitter_us=0, loss=0, spike=0, duplicate=0, replay=0, silent_death=0, boundary_ppm=0, busy_us=0,
        late_us=0, wild=False, rates_ppm=(0,) * len(plan.rates_ppm), kept=(True,) * 5, stream_faults=0,
        ttls_ms=(1_000,) * 8,
    )  # fmt: skip
    return replace(still, **changes)  # type: ignore[arg-type]


def started(plan: Plan | None = None) -> tuple[Run, KeeperNode]:
    """Members that run, and the first node beside them."""
    run = Run(3, 0, 0, plan or calm())
    run.found()
    for host in run.world.hosts:
        run.world.revive(host)
    node = run.nodes[0]
    assert isinstance(node, KeeperNode)
    node.rng = Chanceless()
    run.world.later(1 * SECOND, node.begin)
    return run, node


class Chanceless(Random):
    """No whims, no stops, and whoever is asked for a number gets the least."""

    def random(self) -> float:
        return 0.9


class Ear:
    """The keeper's end of a stream, which only listens."""

    def __init__(self) -> None:
        self.came: list[bytes] = []

    def opened(self, stream: Stream) -> None:
        """Nothing follows."""

    def heard(self, stream: Stream, data: bytes) -> None:
        self.came.append(data)

    def broke(self, stream: Stream) -> None:
        """Nothing follows."""


class Listening:
    """Notes what members are asked."""

    def __init__(self) -> None:
        self.asked: list[AnyRequest] = []

    def begin(self, world: World) -> None:
        """Nothing to note."""

    def said(self, who: str, text: str) -> None:
        """Nothing to note."""

    def turn(self, host: Host, items: Sequence[Input], effects: Effects) -> None:
        self.asked += [item.request for item in items if isinstance(item, Asked)]


def go_on(run: Run, seconds: float) -> None:
    until = run.world.now + int(seconds * SECOND)
    while run.world.now < until:
        run.steps(run.world.steps + 1)


def test_a_keeper_opens_a_session_stands_and_leads_through_the_codecs_of_both_ends() -> None:
    run, node = started()
    go_on(run, 4)
    lease = node.leading(OFFICE)
    assert lease is not None
    assert run.world.observer.leases.validity[OFFICE][node.name].term == lease.term
    seen = run.world.seen
    assert seen["keeper Granted"] == 1
    assert seen["keeper Renewed"] >= 10
    assert seen["keeper Ended"] == seen["keeper SessionLost"] == 0


def test_when_its_member_dies_it_moves_and_its_lease_goes_on() -> None:
    run, node = started()
    go_on(run, 4)
    assert node.current is not None
    lease, left = node.leading(OFFICE), node.current
    run.world.crash(left.host, keep=True)
    go_on(run, 4)
    assert node.current is not None
    assert node.current is not left
    assert node.leading(OFFICE) == lease


def test_a_stream_that_falls_silent_is_left() -> None:
    run, node = started()
    go_on(run, 4)
    left = node.current
    assert left is not None
    left.silence()
    go_on(run, 2)
    assert node.current is not None
    assert node.current is not left
    assert run.world.seen["keeper moves"] >= 1


def test_a_crashed_process_comes_back_with_another_session() -> None:
    run, node = started()
    go_on(run, 4)
    before = node.session()
    node.crash(100)
    assert node.leading(OFFICE) is None
    assert node.validity(OFFICE) is None
    go_on(run, 8)
    assert node.session() not in {None, before}


@pytest.mark.parametrize("kept", [True, False])
def test_a_node_that_dies_while_its_machine_stands_still_is_looked_at_again_later(*, kept: bool) -> None:
    run = Run(3, 0, 0, calm(kept=(kept,) * 5))
    run.found()
    for host in run.world.hosts:
        run.world.revive(host)
    node = run.nodes[0]
    run.world.later(1 * SECOND, node.begin)
    go_on(run, 2)
    node.pause(1 * SECOND, machine=True)
    seen = [node.frozen]
    node.crash(100)
    go_on(run, 1)
    assert [*seen, node.frozen] == [True, False]


def test_messages_of_one_stream_keep_their_order_whatever_is_lost() -> None:
    run, _ = started(calm(jitter_us=5_000))
    ear = Ear()
    stream = Stream(run.world.streams, ear, run.world.hosts[0], run.world.hosts[0].api)
    stream.stands = True
    run.world.asking.loss = 0.3
    run.world.healed = True  # what is lost is sent again
    for number in range(200):
        stream.say(b"", b"%d" % number)
    go_on(run, 0.9)
    assert ear.came == [b"%d" % number for number in range(200)]


def test_a_member_hears_keepalives_of_streams() -> None:
    """S16 counts from what the observer saw arrive."""
    run, node = started()
    go_on(run, 4)
    session = node.session()
    assert session is not None
    heard = run.world.observer.leases.last_heard[session]
    assert run.world.now - heard <= 1 * SECOND // 4
    assert run.world.observer.leases.last_kept[session] > 0


@pytest.mark.parametrize(
    "event",
    [
        told.Renewed(OFFICE, Term(7), Instant(1)),
        told.Ended(OFFICE, Term(7), "expired", Instant(1)),
        told.Demanded(OFFICE, Term(7), None, 10, Instant(1)),
        told.Rejected("invalid", "why"),
    ],
)
def test_what_no_keeper_may_tell_is_found(event: told.Event) -> None:
    run, node = started()
    go_on(run, 2)
    assert node.core is not None
    node.believed.clear()
    with pytest.raises(Broken, match="keeper"):
        node.hear(node.core, event)


def test_a_second_grant_while_it_leads_is_found() -> None:
    run, node = started()
    go_on(run, 4)
    assert node.core is not None
    with pytest.raises(Broken, match="keeper"):
        node.hear(node.core, told.Granted(OFFICE, Term(99), "t", Instant(1)))


def test_who_believes_what_it_was_told_holds_until_then() -> None:
    run, node = started()
    go_on(run, 4)
    node.looks = False
    node.believed[OFFICE] = Believed(Lease(OFFICE, Term(7), "t", 1_000), Instant(node.local() + 5 * SECOND))
    claim = node.validity(OFFICE)
    assert claim is not None
    assert claim.until == run.world.now + 5 * SECOND
    node.clock = Clock(0)
    node.believed[OFFICE].counts = False
    assert node.validity(OFFICE) is None


def test_a_keeper_without_a_session_and_an_office_without_a_holder_are_missed() -> None:
    run, node = started()
    go_on(run, 2)
    keeping = Keeping(run.healing)
    keeping.keepers = [node]
    assert keeping.missing() == ""
    leader = run.healing.serving()[0]
    leader.machine.state.elections[OFFICE].holder = None
    assert keeping.missing() == f"nobody leads {OFFICE}"
    assert node.core is not None
    node.core._open()
    assert keeping.missing() == f"{node.name} has no session"


def test_a_keeper_that_never_gets_a_session_fails_the_liveness_phase() -> None:
    run, node = started()
    go_on(run, 4)
    node.ended()
    node.core = KeeperCore(Settings(NodeId(node.name), node.ttl_ms), SplitMix64(7))
    node.dialer = Idle(SplitMix64(7))
    node.dialer.learn(host.api for host in run.world.seated())
    keeping = Keeping(run.healing)
    keeping.keepers = [node]
    with pytest.raises(Broken, match="has no session"):
        keeping.look()


class Idle(Dialer):
    """Knows whom to dial, and dials nobody."""

    def dial(self, now: Instant, avoid: str | None = None) -> tuple[str, ...]:
        return ()

    def deadline(self, avoid: str | None = None) -> Instant:
        return NEVER


def test_a_keeper_of_whose_endpoints_none_is_left_is_waited_for_by_nobody() -> None:
    """Seed 1558: a new process knew only founders, and all of them had been replaced."""
    run, node = started()
    go_on(run, 4)
    keeping = Keeping(run.healing)
    keeping.keepers = [node]
    assert keeping.able() == [node]
    node.dialer = Dialer(SplitMix64(7))
    node.dialer.learn(["http://gone:8368"])
    assert keeping.able() == []
    assert run.world.seen["keeper knows nobody that is left"] == 1


def test_what_is_written_down_for_a_process_names_somebody_who_is_there() -> None:
    run, node = started()
    node.rng = Random(1)
    apis = [host.api for host in run.world.seated()]
    assert {node.written_down()[-1] for _ in range(50)} == set(apis)


def test_the_end_of_a_member_reads_what_the_end_of_the_keeper_writes() -> None:
    run, node = started()
    run.world.teller = listening = Listening()
    go_on(run, 4)
    kinds = {type(request).__name__ for request in listening.asked}
    assert {"OpenClient", "OpenSession", "Campaign", "Keepalive", "Status"} <= kinds
    keeps = [request for request in listening.asked if isinstance(request, Keepalive)]
    assert [keep.number for keep in keeps] == list(range(1, len(keeps) + 1))
    assert {keep.session for keep in keeps} == {node.session()}
