"""Real members under load and under faults: what was acknowledged stays, one leads at a time, terms only rise.

`play` makes a cluster, applications that stand for an election, and clients; does one fault after another (`nemesis`);
then holds everything that anybody said against everything else.
"""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from tests.e2e.applications import Applications, Loss
from tests.e2e.cluster import Cluster, Connection, broken, eventually, now_us, patience_s, started
from tests.e2e.harm import Faketime
from tests.e2e.load import Style, User, attempt_s
from tests.sim.linearizability import Operation, check

election: Final = "orders"
applications: Final = {"a": 500, "b": 750, "c": 1_000}
"""Nodes and their TTLs in milliseconds."""
styles: Final[tuple[Style, ...]] = ("sequence", "key", "sequence", "bare")


class Story:
    """The cluster, who uses it, and what was seen."""

    def __init__(
        self,
        members: Cluster,
        apps: Applications,
        users: list[User],
        rng: random.Random,
        clocks: dict[str, Faketime],
    ) -> None:
        self.members = members
        self.apps = apps
        self.users = users
        self.rng = rng
        self.clocks = clocks
        """By member, and `applications`; none unless the story is about them."""
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

    def committed(self) -> int:
        """The newest log index that somebody tells."""
        told: list[int] = []

        def somebody() -> bool:
            reports = [report for member in self.members.running if (report := member.status()) is not None]
            told[:] = [report["consensus"]["commit_index"] for report in reports]
            return bool(told)

        eventually(somebody, "somebody tells how far it is")
        return max(told)

    def has_applied(self, name: str, index: int) -> bool:
        report = self.members[name].status()
        return report is not None and report["consensus"]["applied_index"] >= index

    def caught_up(self, name: str) -> None:
        target = self.committed()
        eventually(lambda: self.has_applied(name, target), f"{name} has caught up with {target}")

    def holds_what_was_acknowledged(self, name: str) -> None:
        """Until now, in this member's own state, while more is written."""
        known = {key: written for user in self.users for key, written in dict(user.acknowledged).items()}
        self.caught_up(name)
        eventually(lambda: not missing(self.members, name, known), f"{name} has what was acknowledged")

    def rest(self, least: float, most: float) -> None:
        time.sleep(self.rng.uniform(least, most))

    # --- rounds ------------------------------------------------------------------------------------------------------

    def round(self, what: str, fault: Callable[["Story", str], None]) -> None:
        self.rest(0.0, 0.2)
        begun = now_us()
        fault(self, what)
        self.look()
        self.rounds.append((begun, now_us(), what))


class Outcome(Struct, frozen=True):
    """Figures of a story that ended well."""

    seconds: float
    operations: int
    unknown: int | None
    """Writes whose fate nobody learned."""
    terms: int | None
    """Granted to applications, where there were some."""
    leaders: int
    """Consensus leaders that were seen."""
    waits_ms: dict[str, list[int]]
    """By fault: how long it took until all clients had been served again."""


Faults = dict[str, Callable[[Story, str], None]]


def drawn_seed() -> int:
    return int(os.environ.get("TENURE_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)


def play(folder: Path, size: int, plan: Sequence[str], faults: Faults, seed: int, *, clocked: bool = False) -> Outcome:
    """Every fault of the plan, and the judgement. `clocked`: wall clocks can be set."""
    rng = random.Random(seed)
    stop = threading.Event()
    made = Cluster(folder, size)
    clocks = {name: Faketime(folder / f"{name}.clock") for name in [*made.members, "applications"] if clocked}
    for name in made.members:
        made[name].environment = clocks[name].environment if clocked else {}
    own = clocks["applications"].environment if clocked else {}
    with (
        started(made) as members,
        Applications(members.endpoints, election, applications, folder, own) as apps,
    ):
        ports = [member.api for member in members.members.values()]
        users = [
            User(
                [Connection(port, attempt_s) for port in ports],
                number,
                style,
                rng.getrandbits(64),
                stop,
                election=election,
            )
            for number, style in enumerate(styles)
        ]
        story = Story(members, apps, users, rng, clocks)
        for user in users:
            user.start()
        apps.all_standing(members)
        apps.leading()
        begun = time.monotonic()
        for number, what in enumerate(plan):
            print(f"{time.monotonic() - begun:6.1f} s  round {number + 1}: {what}", flush=True)
            story.round(what, faults[what])
        return _end(story, stop, begun)


def _end(story: Story, stop: threading.Event, begun: float) -> Outcome:
    members, users = story.members, story.users
    stop.set()
    for user in users:
        user.join(patience_s)
        assert not user.is_alive(), f"{user.name} hangs"
    story.look()
    story.apps.end()
    story.look()
    operations = [*(each for user in users for each in user.operations), *read_all(members, users)]
    members.settled()
    for name in members.members:
        every_own_write_is_there(members, name, users)
    outcome = _told(story, operations, time.monotonic() - begun)
    judge(story, operations)
    return outcome


def read_all(members: Cluster, users: list[User]) -> list[Operation]:
    """Linearizable reads of every shared key after the last write, at each member."""
    found = []
    keys = {each.key for user in users for each in user.operations if not each.key.startswith("own/")}
    for key in sorted(keys):
        for member in members.running:
            called = time.monotonic_ns()
            answer = member.ask("GET", f"/v1/kv/{key}")
            value, revision = (None, 0) if answer.status == 404 else (answer.data["value"], answer.data["revision"])
            assert answer.status in {200, 404}, answer.raw
            found.append(Operation(key, "get", called, time.monotonic_ns(), "ok", value, revision, None, member.name))
    return found


def every_own_write_is_there(members: Cluster, name: str, users: list[User]) -> None:
    """What was acknowledged, read from this member's own state."""
    lost = missing(members, name, {key: written for user in users for key, written in user.acknowledged.items()})
    assert not lost, f"{name} lost acknowledged writes: {lost[:5]} ({len(lost)} in all)"


def missing(members: Cluster, name: str, known: Mapping[str, tuple[str, int]]) -> list[tuple[str, str, int, bytes]]:
    """Which of these writes, each the only one of its key, this member doesn't show, and what it shows instead."""
    connection = Connection(members[name].api)
    found = []
    for key, (value, revision) in known.items():
        answer = connection.ask("GET", f"/v1/kv/{key}?consistency=stale")
        if answer.status != 200 or (answer.data["value"], answer.data["revision"]) != (value, revision):
            found.append((key, value, revision, answer.raw))
    connection.close()
    return found


# --- the judgement ---------------------------------------------------------------------------------------------------


def _told(story: Story, operations: list[Operation], seconds: float) -> Outcome:
    kinds = Counter(f"{each.kind} {each.outcome}" for each in operations)
    print(f"{seconds:.1f} s, {len(operations)} operations: {dict(sorted(kinds.items()))}")
    print(f"{len(story.holdings)} terms granted, {len(story.leaders)} consensus terms")
    for loss in story.apps.losses():
        if loss.unasked:
            stalled = story.apps.stalled_us(loss.node, loss.at - 2_000_000, loss.at) // 1_000
            print(f"  {loss.node} lost {loss.term} ({loss.cause}): {during(loss, story)}; it stood still {stalled} ms")
    waits: dict[str, list[int]] = {}
    for what, waited in story.wounds:
        print(f"  {what}: all clients were served again after {waited * 1000:.0f} ms")
        waits.setdefault(what, []).append(int(waited * 1000))
    return Outcome(seconds, len(operations), kinds["put unknown"], len(story.holdings), len(story.leaders), waits)


def judge(story: Story, operations: list[Operation]) -> None:
    odd = [text for user in story.users for text in user.odd]
    assert not odd, odd[:10]
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
