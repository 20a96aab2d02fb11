"""The liveness phase (VERIFICATION 3): all faults of a majority heal, and from then on everything must go well in time.

In this order: a leader comes (L1, with the time to notice that there is none); nothing changes while nothing fails
(L3); the leader is killed, and the next one comes within L1's bound as P10 says it; the killed one comes back and
deposes nobody (L5); the leadership is handed over (L7); with some links cut a leader stays, where one is promised (L6);
and in the end every operation is over (L2), everybody has caught up (L4), and silent sessions are gone (L9).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from tenure.base.ids import MemberId
from tenure.base.instants import NEVER
from tenure.leadership.engine import AnyResult, Refused, Stepdown, Stepped
from tenure.raft.state import Leader
from tests.sim import cutting
from tests.sim.changing import Changing
from tests.sim.cutting import Ways
from tests.sim.host import Host
from tests.sim.keeping import Keeping
from tests.sim.plan import MS, RHO_PPM, SECOND
from tests.sim.users import HEALED_PATIENCE_US

if TYPE_CHECKING:
    from random import Random

    from tests.sim.run import Run

LOOK_STEPS: Final = 20
TRANSFER_TRIES: Final = 5
QUIET_STEPS: Final = 600
AFTER_RETURN_STEPS: Final = 300
QUIET_STEPS_MAX: Final = 20_000  # how many steps more the last operations may take before that is a failure of its own
QUIET_PATIENCES: Final = 3  # … if a client has had the time to lose its patience so often
CATCHING_UP_STEPS: Final = 2_000  # so many steps more, as long as those who are behind come nearer
CATCHING_UP_BOUNDS: Final = 20  # the same in time, so often the bound
EXPIRY_SLACK_US: Final = 3 * SECOND
ENTRIES_BEHIND: Final = 50


class Healing:
    """What must go well once nothing fails any more."""

    def __init__(self, run: "Run", rng: "Random") -> None:
        self.run = run
        self.world = run.world
        self.observer = run.world.observer
        self.rng = rng
        self.answers: list[AnyResult | None] = []
        self.asked_until = 0
        """What was asked up to then must be answered in the end."""

    def go(self, end: int) -> None:
        """All of it, in at least so many steps; raises at the first thing that doesn't go well."""
        run, world = self.run, self.world
        begun = world.steps
        self.converge("everything was mended")
        self.stay()
        world.network.loss = world.asking.loss = 0.0
        self.fail_over()
        self.hand_over()
        self.partial()
        Changing(self).go()
        run.steps(begun + (end - begun) * 3 // 5)
        for client in run.clients:
            client.stopped = True
        world.resting = True
        run.steps(end)
        self.come_to_rest()
        Keeping(self).look()
        self.sessions_gone()

    # --- who is there -----------------------------------------------------------------------------------------------

    def healthy(self) -> list[Host]:
        """Members that live and take part."""
        return [host for host in self.world.seated() if host.replica is not None and not host.gone and not host.suspect]

    def counted(self) -> list[Host]:
        """Those of them who vote."""
        voters = self.world.voters()
        return [host for host in self.healthy() if host in voters]

    def serving(self) -> list[Host]:
        """Members that lead and serve, among those."""
        return [host for host in self.healthy() if host.is_serving]

    def quorum_without(self, missing: int) -> bool:
        """Whether a majority is left when so many more are missing."""
        return 2 * (len(self.counted()) - missing) > len(self.world.voters())

    def majority_is_near(self) -> bool:
        """Whether a majority is left without the leader that has what is committed: a snapshot in tiny pieces over a
        network without order may take longer than any bound on an election.
        """
        return 2 * (len(self.near()) - 1) > len(self.world.voters())

    def members_rest(self, leader: Host) -> bool:
        """Whether no change of the members is in its log alone. Whoever dies then may be waited for until he is back:
        what that costs is said in ADR 0033, and L1 promises nothing of it.
        """
        raft = leader.raft
        return raft.configuration.index <= raft.commit and not raft.calls_the_roll

    def near(self) -> list[Host]:
        """Voters that have nearly all that is committed."""
        return [host for host in self.counted() if host.raft.commit >= self.observer.commit_top - ENTRIES_BEHIND]

    def settled(self) -> bool:
        """One leader serves, and everybody follows it."""
        leader: MemberId | None = None
        followed: set[MemberId | None] = set()
        for host in self.healthy():
            _, _, follows, serves = host.raft.lead
            if follows is None or (serves and leader is not None):
                return False
            followed.add(follows)
            leader = follows if serves else leader
        return leader is not None and followed == {leader}

    def await_(self, bound_us: int, rule: str, text: str, so: Callable[[], bool], *, coming: bool = False) -> int:
        """Go on until it is so; how long that took. `coming`: the bound begins anew if somebody was brought nearer."""
        world, begun, near = self.world, self.world.now, self.caught_up() if coming else 0
        end = begun + bound_us
        while not so():
            if world.now > end:
                before, near = near, self.caught_up() if coming else 0
                if near <= before or world.now > begun + CATCHING_UP_BOUNDS * bound_us:
                    states = ", ".join(self.shown())
                    self.observer.fail(rule, f"{bound_us / MS:.1f} ms after {text}: {states}")
                end = world.now + bound_us
            self.run.steps(world.steps + 1)
        return world.now - begun

    def shown(self) -> Iterable[str]:
        """What the members are, for whoever reads a failure."""
        for host in self.world.seated():
            if host.gone or host.core is None:
                yield f"{host.name} {host.gone or 'down'}"
            else:
                core = host.core
                yield f"{host.name} {host.raft.role} t{core.term} {core.commit}/{core.log.last_index}"

    # --- bounds -----------------------------------------------------------------------------------------------------

    def l1_us(self, hosts: list[Host]) -> int:
        """P10: (worst live rank + 2) steps + 4 application RTT p99 + 2 vote timeouts, by the slowest of them."""
        timings = [host.core.timing for host in hosts if host.core is not None]
        step = max(timing.step for timing in timings)
        rtt = max(timing.rtt_p99 for timing in timings)
        vote = max(timing.vote_timeout for timing in timings)
        return self.by_any_clock((len(hosts) - 1 + 2) * step + 4 * rtt + 2 * vote)

    def by_any_clock(self, micros: int) -> int:
        """How long that lasts in true time, by the slowest clock that is allowed."""
        return micros * (1_000_000 + RHO_PPM) // 1_000_000 + 1

    def notice_us(self) -> int:
        """How long a silence may be before it counts (P6.2), with what own stalls excuse (P6.3)."""
        plan = self.world.plan
        timings = [host.core.timing for host in self.healthy() if host.core is not None]
        rtt = max((timing.rtt_p99 for timing in timings), default=0) + 2 * plan.latency_us + 2 * plan.jitter_us
        return self.by_any_clock(max(250 * MS, 10 * rtt) + 3 * (25 * MS + rtt))

    def round_us(self) -> int:
        """The longest round that may be under way, its answers included (`suspicion.round_us`)."""
        timings = [host.core.timing for host in self.healthy() if host.core is not None]
        return max(500 * MS, *(timing.vote_timeout for timing in timings))

    # --- the phases -------------------------------------------------------------------------------------------------

    def converge(self, text: str) -> int:
        """L1 from any state: rounds under way end, patience for their winners too, the loss is noticed, and then a
        round or two as if from rest. How long it took. Who must be brought up first for a majority has time for that.
        """
        healthy = self.healthy()
        bound = 3 * self.round_us() + 2 * self.notice_us() + 2 * self.l1_us(healthy) + 1 * SECOND
        return self.await_(bound, "L1", text, self.settled, coming=not self.majority_is_near())

    def stay(self) -> None:
        """L3: no change of leader while nothing fails; a transfer that somebody had asked for before is no failure.
        Before that round trips get measured: timeouts and turns are made of them.
        """
        world, plan = self.world, self.world.plan
        self.run.steps(world.steps + QUIET_STEPS)
        self.converge("round trips were measured")
        steps = [host.core.timing.step for host in self.healthy() if host.core is not None]
        if plan.jitter_us > min(steps) // 2:
            return
        leader = self.serving()[0]
        transfers, since = self.handing_over(), world.now
        self.run.steps(world.steps + QUIET_STEPS)
        if self.serving() != [leader] and not self.may_change(transfers, since):
            self.observer.fail("L3", f"{leader.name} led, nothing failed, and now {', '.join(self.shown())}")
        world.seen["stayed"] += 1

    def handing_over(self) -> int:
        """How many hand-overs have begun: asked for, or because a disk had been stuck until all was mended (P4.1)."""
        return self.world.seen["transfer_begun"] + self.world.seen["disk_stalled"]

    def may_change(self, transfers: int, since: int) -> bool:
        """Whether somebody else may lead with reason: a hand-over began, or frames from before everything was mended
        may have come since, and a TimeoutNow be one of them.
        """
        late = since < self.world.network.late_until
        self.world.seen["late frames may have come"] += late
        return late or self.handing_over() != transfers

    def fail_over(self) -> None:
        """L1 as P10 says it: from when the last of the others has noticed to when the next is elected. Then L5."""
        world = self.world
        self.converge("loss ended")
        if not self.quorum_without(1):
            return
        end = world.steps + QUIET_STEPS
        while not self.majority_is_near() and world.steps < end:
            self.run.steps(world.steps + 20)
        if not self.majority_is_near():
            world.seen["too far behind to lose a leader"] += 1
            return
        self.converge("a majority had caught up")
        leader = self.serving()[0]
        while not self.members_rest(leader) and world.steps < end:
            self.run.steps(world.steps + 1)
        if self.serving() != [leader] or not self.members_rest(leader) or not self.quorum_without(1):
            world.seen["members in motion"] += 1
            return
        others = [host for host in self.counted() if host is not leader]
        bound = self.l1_us(others)
        before = self.observer.takeovers
        world.seen["killed"] += 1
        world.crash(leader, keep=True)
        # The end of a connection comes behind all that it carried (P5.4) only where frames keep their order: else what
        # a dead leader sent before everything was mended goes on arriving.
        late = max(0, world.network.late_until - world.now)
        noticed = world.plan.latency_us + world.plan.jitter_us if world.plan.ordered else late + self.notice_us()
        took = self.await_(noticed + bound, "L1", f"{leader.name} died", lambda: self.observer.takeovers > before)
        world.seen["killed µs"] += took
        self.converge("a leader had died")
        transfers, since, next_one = self.handing_over(), world.now, self.serving()[0]
        world.revive(leader)
        self.run.steps(world.steps + AFTER_RETURN_STEPS)
        if self.serving() != [next_one] and not self.may_change(transfers, since):
            self.observer.fail("L5", f"{leader.name} came back, {next_one.name} led, and now {', '.join(self.shown())}")
        self.converge("the old leader had come back")

    def hand_over(self) -> None:
        """L7: a transfer that is asked for ends, done or not; where nothing fails it is done at one of a few tries (the
        target may be far behind, a queue full).
        """
        self.converge("whoever was to die")
        if not self.two_hold_state():
            return
        end = self.world.steps + QUIET_STEPS
        while not self.somebody_could_take_over() and self.world.steps < end:
            self.run.steps(self.world.steps + 20)
        if not self.somebody_could_take_over():
            self.world.seen["too far behind to take over"] += 1
            return
        self.converge("somebody had caught up")
        self.answers.clear()
        for number in range(1, TRANSFER_TRIES + 1):
            leader = self.serving()[0]
            self.world.asking.ask(self, number, leader, Stepdown())
            bound = 3 * SECOND + self.world.plan.latency_us * 4
            self.await_(bound, "L7", "a transfer was asked for", lambda number=number: len(self.answers) == number)  # type: ignore[misc]
            self.converge("a transfer")
            answer = self.answers[-1]
            if isinstance(answer, Stepped) or (isinstance(answer, Refused) and answer.code == "too_many"):
                return  # done; or a queue that the plan has made short is full
        if not self.two_hold_state():  # a change that was under way has ended meanwhile
            self.world.seen["nobody is left to take over"] += 1
            return
        self.observer.fail("L7", f"the leadership can't be handed over: {self.answers}; {', '.join(self.shown())}")

    def two_hold_state(self) -> bool:
        """Whether there are two who vote and could lead."""
        return sum(1 for host in self.counted() if host.replica is not None and not host.replica.witness) >= 2

    def somebody_could_take_over(self) -> bool:
        """Whether the leader and another who holds state have nearly all that is committed, and the leader's log ends
        there, nearly: the target needs all of it first, and narrow ways carry some hundred entries a second.
        """
        near = [host for host in self.near() if host.replica is not None and not host.replica.witness]
        ends = [host.core.log.last_index for host in self.serving() if host.core is not None]
        return len(near) >= 2 and all(end - self.observer.commit_top <= ENTRIES_BEHIND for end in ends)

    def answered(self, tag: int, result: AnyResult | None) -> None:
        """The answer to the transfer; a broken connection is one too."""
        self.answers.append(result)

    # --- L6 ---------------------------------------------------------------------------------------------------------

    def partial(self) -> None:
        """Some links are cut; where somebody reaches a majority and is the freshest in it, a leader comes and stays."""
        world = self.world
        whole = self.counted() == world.seated()
        witnesses = any(host.replica is not None and host.replica.witness for host in world.seated())
        if len(world.seated()) < 3 or not whole or witnesses or self.rng.random() < 0.5:
            return
        if self.near() != self.counted():  # with one that must catch up first a new leader serves when that is done
            world.seen["too far behind to cut links"] += 1
            return
        kind, ways = self.some_cuts()
        world.tell("nemesis", f"cuts links: {kind}")
        world.seen[f"partial {kind}"] += 1
        network = world.network
        told = self.rng.random() < 0.5
        for one, other in ways:
            one.ways[other.index].cut = True
            if told and network.linked(one, other):
                network.disconnect(one, other)
                network.lose(one, other, "timeout", 0)
                network.lose(other, one, "timeout", 0)
        bound = 3 * self.round_us() + 3 * self.notice_us() + 3 * self.l1_us(self.healthy()) + 1 * SECOND
        begun = world.now
        while not self.led_within_reach() and world.now < begun + bound:
            self.run.steps(world.steps + LOOK_STEPS)
        if not self.led_within_reach() and self.somebody_could():
            self.observer.fail("L6", f"{kind}, {bound / MS:.1f} ms ago, and no leader: {', '.join(self.shown())}")
        leaders = self.led_within_reach()
        begun = world.now
        while world.now < begun + 1 * SECOND:
            self.run.steps(world.steps + LOOK_STEPS)
        moved = leaders and self.led_within_reach() != leaders and self.somebody_could()
        if moved and begun >= network.late_until:
            self.observer.fail("L6", f"{kind}: {leaders[0].name} led and doesn't stay: {', '.join(self.shown())}")
        for one, other in ways:
            one.ways[other.index].cut = False
        for number, one in enumerate(world.seated()):
            for other in world.seated()[:number]:
                if not network.linked(one, other):
                    network.renew(one, other)
        self.converge("links were mended")

    def some_cuts(self) -> tuple[str, Ways]:
        """One of the well-known cases."""
        hosts, rng = self.world.seated(), self.rng
        leader = self.serving()[0]
        others = [host for host in hosts if host is not leader]
        match rng.choice(("hub", "hub_leader", "chain", "bridge", "one_way_out", "one_way_in", "one_link")):
            case "hub":  # "quorum loss": everybody is reached by one who doesn't lead
                return "hub", cutting.hub(hosts, rng.choice(others))
            case "hub_leader":
                return "hub_leader", cutting.hub(hosts, leader)
            case "chain":
                return "chain", cutting.chain(hosts, rng)
            case "bridge":
                return "bridge", cutting.bridge(hosts, rng)
            case "one_way_out":
                return "one_way_out", [(leader, other) for other in others]
            case "one_way_in":
                return "one_way_in", [(other, leader) for other in others]
            case _:
                return "one_link", cutting.pairs([leader], [rng.choice(others)])

    def reaches(self, host: Host) -> list[Host]:
        """Whom a member hears and is heard by, itself included."""
        others = [other for other in self.world.seated() if other is not host]
        return [host, *(other for other in others if self.world.network.reachable(host, other))]

    def led_within_reach(self) -> list[Host]:
        """Leaders that serve and reach a majority."""
        voters = len(self.world.voters())
        return [host for host in self.serving() if 2 * len(self.reaches(host)) > voters]

    def somebody_could(self) -> bool:
        """Whether somebody reaches a majority and is the freshest in it."""
        for host in self.world.seated():
            reach = self.reaches(host)
            logs = [(one.core.log.last_term, one.core.log.last_index) for one in reach if one.core is not None]
            if 2 * len(reach) > len(self.world.voters()) and logs[0] == max(logs):
                return True
        return False

    # --- the end ----------------------------------------------------------------------------------------------------

    def come_to_rest(self) -> None:
        """L2, L4: no operation open, everybody caught up, watchers too."""
        world = self.world
        self.asked_until = world.asking.last
        end = world.steps + QUIET_STEPS_MAX
        # Who asked a member that died waits for its own patience; TTLs of 20 ms make 10 000 steps of a second.
        end_us = world.now + QUIET_PATIENCES * max(world.plan.patience_us, HEALED_PATIENCE_US)
        last = 20 * end
        while (text := self.unrest()) and (world.steps < end or (world.now < end_us and world.steps < last)):
            before = self.caught_up()
            self.run.steps(world.steps + 200)
            if self.caught_up() > before:  # a dozen may come by snapshots in tiny pieces: who moves on isn't stuck
                end = min(last, max(end, world.steps + CATCHING_UP_STEPS))
        self.observer.require(not text, "liveness", text)

    def caught_up(self) -> int:
        """How far those who are behind have come, all together; snapshots under way included."""
        hosts, top = self.healthy(), self.observer.commit_top
        far = sum(host.raft.commit for host in hosts if host.raft.commit < top - ENTRIES_BEHIND)
        leaders = [host.core.role for host in hosts if host.core is not None and isinstance(host.core.role, Leader)]
        sent = (one.shipment for leader in leaders for one in leader.progress.values())
        return far + sum(shipment.acked for shipment in sent if shipment is not None)

    def unrest(self) -> str:
        """What is still missing."""
        if len(self.serving()) != 1:
            return f"L1: {len(self.serving())} members serve as leader: {', '.join(self.shown())}"
        if any(client.pending is not None for client in self.run.clients):
            return f"L2: operations without an end: {[client.pending for client in self.run.clients]}"
        silent = [host.name for host in self.healthy() if min(host.asked, default=NEVER) <= self.asked_until]
        if silent:
            return f"L2: {silent} leave unanswered what they were asked long ago"
        top = self.observer.commit_top
        behind = [host.name for host in self.healthy() if host.raft.commit < top - ENTRIES_BEHIND]
        if behind:
            return f"L4: {behind} haven't caught up with {top}: {', '.join(self.shown())}"
        late = [watcher.name for watcher in self.run.watchers if watcher.far_behind()]
        if late:
            return f"S20: {late} were not told of all {len(self.observer.leases.transitions)} transitions"
        newest = max(self.world.plan.engine.features)
        features = {host.raft.feature for host in self.healthy()}
        restarted = all(host.core is not None and host.core.settings.feature_max == newest for host in self.healthy())
        if restarted and len(self.healthy()) == len(self.world.seated()) and features != {newest}:
            return f"P10: everybody speaks {newest}, the cluster {features}"
        return ""

    def sessions_gone(self) -> None:
        """L9: who was not heard for its TTL, and a fail-over, has no session any more."""
        for text in self.overdue(self.serving()[0]):
            self.observer.fail("L9", text)

    def overdue(self, leader: Host) -> Iterator[str]:
        """Sessions that should be gone. What the leader stood still meanwhile comes on top: what waited in its sockets
        may have been the renewal (P3.7).
        """
        leases, now = self.observer.leases, self.world.now
        for session in sorted(leader.machine.state.sessions):
            heard = max(leases.last_heard.get(session, 0), self.observer.elected_last)
            stood = sum(micros for since, micros in leader.stood if since + micros > heard)
            if now > heard + self.by_any_clock(leases.ttl_us[session]) + stood + EXPIRY_SLACK_US:
                yield f"{session} was heard {(now - heard) / MS:.0f} ms ago and stands still"
