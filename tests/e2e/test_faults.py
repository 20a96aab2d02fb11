"""Rounds of kill -9 and SIGSTOP on real members under load: what was acknowledged stays, and one leads at a time.

TENURE_TEST_ROUNDS   how many rounds, 20 unless given
TENURE_TEST_SEED     to choose the same faults again; timing is the machine's
"""

import os
import random
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.applications import Applications, Loss
from tests.e2e.cluster import Cluster, Connection, broken, cluster, eventually, now_us, patience_s
from tests.e2e.load import Style, User, attempt_s
from tests.sim.linearizability import Operation, check

rounds: Final = int(os.environ.get("TENURE_TEST_ROUNDS", "20"))
size: Final = int(os.environ.get("TENURE_TEST_MEMBERS", "3"))
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180 + 30 * rounds)]

election: Final = "orders"
applications: Final = {"a": 500, "b": 750, "c": 1_000}
"""Nodes and their TTLs in milliseconds."""
styles: Final[tuple[Style, ...]] = ("sequence", "key", "sequence", "bare")
plan: Final = (
    ("kill the leader",) * 7
    + ("stop the leader",) * 4
    + ("kill a follower",) * 2
    + ("stop a follower",)
    + ("stop an application", "kill an application")
    + ("step down",) * 2
    + ("kill all members", "stop the leader and kill a follower")
)
"""Twenty rounds; more rounds are more of the same, in another order."""


class Story:
    """The nemesis and what it saw."""

    def __init__(self, members: Cluster, apps: Applications, users: list[User], rng: random.Random) -> None:
        self.members = members
        self.apps = apps
        self.users = users
        self.rng = rng
        self.holdings: dict[int, dict[str, Any]] = {}
        """By term, from the grants' history."""
        self.leaders: dict[int, str] = {}
        """By consensus term."""
        self.rounds: list[tuple[int, int, str]] = []
        """Begin, end and fault of each round."""
        self.wounds: list[tuple[str, float]] = []
        """Faults, and the seconds until the next acknowledged write."""

    # --- looks -------------------------------------------------------------------------------------------------------

    def look(self) -> None:
        for member in self.members.running:
            report = member.status()
            if report is not None and report["consensus"]["leader"] is not None:
                term, leader = report["consensus"]["term"], report["consensus"]["leader"]
                assert self.leaders.setdefault(term, leader) == leader, f"two leaders in consensus term {term}"
        for member in self.members.running:
            with suppress(*broken):
                answer = member.ask("GET", f"/v1/elections/{election}/history?limit=50", timeout=2.0)
                if answer.status == 200:
                    self.remember(answer.data["holdings"])
                    return

    def remember(self, page: list[dict[str, Any]]) -> None:
        terms = [holding["term"] for holding in page]
        assert terms == sorted(set(terms), reverse=True), f"terms must strictly rise: {terms}"
        for holding in page:
            known = self.holdings.setdefault(holding["term"], holding)
            assert known["session"] == holding["session"], f"a term was granted twice: {known} {holding}"

    def acknowledged(self) -> int:
        return sum(user.acks for user in self.users)

    def served_again(self, what: str) -> None:
        """Wait until each of several writes that began after now was acknowledged."""
        begun, before = time.monotonic(), self.acknowledged()
        eventually(lambda: self.acknowledged() >= before + len(self.users) + 1, f"writes after: {what}", 3 * patience_s)
        self.wounds.append((what, time.monotonic() - begun))

    def caught_up(self, name: str) -> None:
        reports = [report for member in self.members.running if (report := member.status()) is not None]
        target = max(report["consensus"]["commit_index"] for report in reports)

        def there() -> bool:
            report = self.members[name].status()
            return report is not None and report["consensus"]["applied_index"] >= target

        eventually(there, f"{name} has caught up with {target}")

    def rest(self, least: float, most: float) -> None:
        time.sleep(self.rng.uniform(least, most))

    # --- faults ------------------------------------------------------------------------------------------------------

    def round(self, what: str) -> None:
        leader = self.members.leader()
        follower = self.rng.choice([name for name in self.members.members if name != leader])
        self.rest(0.0, 0.2)
        begun = now_us()
        match what:
            case "kill the leader":
                self.kill(what, [leader])
            case "kill a follower":
                self.kill(what, [follower])
            case "kill all members":
                self.kill(what, list(self.members.members))
            case "stop the leader":
                self.freeze(what, leader)
            case "stop a follower":
                self.freeze(what, follower)
            case "stop the leader and kill a follower":
                self.members.pause(leader)
                self.rest(0.05, 0.3)
                self.members.kill(follower)
                self.rest(0.0, 0.4)
                self.members.resume(leader)
                self.served_again(what)
                self.members.start(follower)
                self.caught_up(follower)
            case "stop an application":
                self.apps.freeze(self.apps.leading(), self.rng.uniform(1.0, 1.6))
            case "kill an application":
                self.apps.kill(self.apps.leading())
            case _:
                assert what == "step down"
                self.step_down()
        self.look()
        self.rounds.append((begun, now_us(), what))

    def kill(self, what: str, names: list[str]) -> None:
        for name in names:
            self.members.kill(name)
        if len(names) == 1:
            self.served_again(what)
            self.rest(0.1, 0.5)
        for name in names:
            self.members.start(name)
        if len(names) > 1:
            self.served_again(what)
        for name in names:
            self.caught_up(name)

    def freeze(self, what: str, name: str) -> None:
        self.members.pause(name)
        self.served_again(what)
        self.rest(0.2, 1.2)
        self.members.resume(name)
        self.caught_up(name)

    def step_down(self) -> None:
        """The holder hands over; without another candidate that is eligible nothing changes, and that is an answer."""
        self.apps.all_standing(self.members)
        before = self.apps.leading()
        asked = {"election": election, "grace_ms": 500}
        answer = self.rng.choice(self.members.running).ask("POST", "/leadership/stepdown", asked)
        if answer.code == "no_eligible_successor":  # they have just stepped down themselves
            return
        assert answer.status in {200, 202}, answer.raw
        eventually(lambda: self.apps.leading() != before, f"{before} has handed over")


def planned(count: int, rng: random.Random) -> list[str]:
    """Every kind in each twenty rounds, in any order."""
    chosen: list[str] = []
    while len(chosen) < count:
        chosen += rng.sample(plan, len(plan))
    return chosen[:count]


def test_under_kills_and_stops_nothing_acknowledged_is_lost_and_at_most_one_leads(tmp_path: Path) -> None:
    seed = int(os.environ.get("TENURE_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    print(f"TENURE_TEST_SEED={seed} TENURE_TEST_ROUNDS={rounds} TENURE_TEST_MEMBERS={size}")
    rng = random.Random(seed)
    stop = threading.Event()
    with cluster(tmp_path, size) as members, Applications(members.endpoints, election, applications, tmp_path) as apps:
        ports = [member.api for member in members.members.values()]
        users = [
            User([Connection(port, attempt_s) for port in ports], number, style, rng.getrandbits(64), stop)
            for number, style in enumerate(styles)
        ]
        story = Story(members, apps, users, rng)
        for user in users:
            user.start()
        apps.all_standing(members)
        apps.leading()
        begun = time.monotonic()
        for number, what in enumerate(planned(rounds, rng)):
            print(f"{time.monotonic() - begun:6.1f} s  round {number + 1}: {what}")
            story.round(what)
        stop.set()
        for user in users:
            user.join(patience_s)
            assert not user.is_alive(), f"{user.name} hangs"
        story.look()
        apps.end()
        story.look()
        operations = [*(each for user in users for each in user.operations), *read_all(members, users)]
        members.settled()
        for name in members.members:
            every_own_write_is_there(members, name, users)
        report(story, operations, time.monotonic() - begun)
        judge(story, operations)


def read_all(members: Cluster, users: list[User]) -> list[Operation]:
    """Linearizable reads of every shared key after the last write, at each member."""
    found = []
    for key in sorted({each.key for user in users for each in user.operations if each.key.startswith("shared/")}):
        for member in members.running:
            called = time.monotonic_ns()
            answer = member.ask("GET", f"/v1/kv/{key}")
            value, revision = (None, 0) if answer.status == 404 else (answer.data["value"], answer.data["revision"])
            assert answer.status in {200, 404}, answer.raw
            found.append(Operation(key, "get", called, time.monotonic_ns(), "ok", value, revision, None, member.name))
    return found


def every_own_write_is_there(members: Cluster, name: str, users: list[User]) -> None:
    """What was acknowledged, read from this member's own state."""
    connection = Connection(members[name].api)
    lost = []
    for user in users:
        for key, (value, revision) in user.acknowledged.items():
            answer = connection.ask("GET", f"/v1/kv/{key}?consistency=stale")
            if answer.status != 200 or (answer.data["value"], answer.data["revision"]) != (value, revision):
                lost.append((key, value, revision, answer.raw))
    connection.close()
    assert not lost, f"{name} lost acknowledged writes: {lost[:5]} ({len(lost)} in all)"


def report(story: Story, operations: list[Operation], seconds: float) -> None:
    kinds = Counter(f"{each.kind} {each.outcome}" for each in operations)
    print(f"{seconds:.1f} s, {len(operations)} operations: {dict(sorted(kinds.items()))}")
    print(f"{len(story.holdings)} terms granted, {len(story.leaders)} consensus terms")
    for loss in story.apps.losses():
        if loss.unasked:
            stalled = story.apps.stalled_us(loss.node, loss.at - 2_000_000, loss.at) // 1_000
            print(f"  {loss.node} lost {loss.term} ({loss.cause}): {during(loss, story)}; it stood still {stalled} ms")
    for what, waited in story.wounds:
        print(f"  {what}: all clients were served again after {waited * 1000:.0f} ms")


def judge(story: Story, operations: list[Operation]) -> None:
    odd = [text for user in story.users for text in user.odd]
    assert not odd, odd[:10]
    revisions = Counter(each.revision for each in operations if each.kind == "put" and each.outcome == "ok")
    twice = [revision for revision, count in revisions.items() if count > 1]
    assert not twice, f"two writes were acknowledged at one revision: {twice}"
    violations = check(operations)
    assert not violations, "\n".join(str(violation) for violation in violations)
    story.apps.judge(story.holdings)
    lost = [loss for loss in story.apps.losses() if is_unexcused(loss, story)]
    assert not lost, f"leases lost although only the consensus leader died: {lost}"


def during(loss: Loss, story: Story) -> str | None:
    """The fault that cost this lease: a lease ends a good part of its TTL after the last renewal, so what was lost
    sooner after a fault began was lost before."""
    ttl_us = applications[loss.node] * 1_000
    causes = [what for begin, end, what in story.rounds if begin + ttl_us // 2 <= loss.at <= end]
    return causes[0] if causes else None


def is_unexcused(loss: Loss, story: Story) -> bool:
    """A lease that ended unasked while only the consensus leader was killed, at a process that did run all the time."""
    if not loss.unasked or during(loss, story) != "kill the leader":
        return False
    ttl_us = applications[loss.node] * 1_000
    return story.apps.stalled_us(loss.node, loss.at - 2 * ttl_us, loss.at) < ttl_us // 4
