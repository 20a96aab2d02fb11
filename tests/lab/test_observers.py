"""An observer behind a long cable, both ways: it follows, counts for nothing, costs writes nothing, and serves its own.

100 ms there and 100 ms back. Whatever waited for the observer took a round trip of 200 ms at least, so a write that is
quicker did not wait for it; nothing here depends on how quick the machine is otherwise.
"""

import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import pytest

from lab.ground import inside
from lab.members import LabCluster, LabMember, api_port, cluster
from lab.network import Network
from tests.e2e.cluster import environment, eventually, root
from tests.e2e.measured import measured

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.integration,  # mostly waits, and has no bound that a busy machine could miss
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("permitted"),
]
one_way_ms: Final = 100
rtt_ms: Final = 2 * one_way_ms
writes: Final = 24
ttl_ms: Final = 2_000
"""A machine that stands still for longer costs the office, and it is tried again under the next term."""


@contextmanager
def with_a_far_observer(folder: Path) -> Iterator[tuple[LabCluster, LabMember]]:
    with Network(4) as network:
        network.away(4, rtt_ms)
        with cluster(network, folder, observers=1) as made:
            yield made, made.members[3]


def put(member: LabMember, key: str, value: object) -> tuple[int, float]:
    """Until it is acknowledged: its revision, and how long that request took, in ms."""
    found: list[tuple[int, float]] = []

    def acknowledged() -> bool:
        begun = time.monotonic()
        answer = member.ask("PUT", f"/v1/kv/{key}", {"value": value})
        took = (time.monotonic() - begun) * 1_000
        found[:] = [(answer.data["revision"], took)] if answer.status == 200 else []
        return bool(found)

    eventually(acknowledged, f"{key} is written")
    return found[0]


def seat(made: LabCluster, far: LabMember) -> tuple[dict[str, Any], int]:
    """The observer as the leader sees it, and how far that has committed, both at one moment."""
    found: list[tuple[dict[str, Any], int]] = []

    def told() -> bool:
        for member in made.founders:
            report = member.status()
            if report is not None and report["consensus"]["leader"] == member.name:
                view = report["members"][far.name]
                if view["match_index"] is not None:
                    found[:] = [(view, report["consensus"]["commit_index"])]
                    return True
        return False

    eventually(told, "a leader says what it knows of the observer")
    return found[0]


def test_an_observer_100_ms_away_follows_serves_its_nodes_is_never_counted_and_costs_writes_nothing(
    tmp_path: Path,
) -> None:
    """Each claim in turn, on one cluster."""
    with with_a_far_observer(tmp_path) as (made, far):
        leader = made.settled()
        assert seat(made, far)[0]["role"] == "observer"
        follows(leader, far)
        serves_a_distant_node(made, far, tmp_path / "far.jsonl")
        costs_nothing(made, made.settled(), far)
        is_never_counted(made, made.settled(), far)


def is_never_counted(made: LabCluster, leader: LabMember, far: LabMember) -> None:
    """Neither among all nor in a majority."""
    first, second = (member for member in made.founders if member is not leader)
    made.network.cut_only(pair for pair in made.network.pairs if far.number in pair)
    first.signal(signal.SIGKILL)
    first.reap()
    put(leader, "two-of-three", "enough")  # of four it would be a half
    made.network.heal()
    eventually(lambda: stale(far, "two-of-three") == "enough", "the observer follows again")
    second.signal(signal.SIGKILL)
    second.reap()
    alone = leader.ask("PUT", "/v1/kv/one-of-three", {"value": "never"})
    assert (alone.status, alone.code) == (503, "no_quorum"), "with the observer it would be two"
    assert stale(far, "two-of-three") == "enough", "it says what it knows, also of a cluster that stands"
    assert stale(far, "one-of-three") is None


def stale(member: LabMember, key: str) -> object:
    answer = member.ask("GET", f"/v1/kv/{key}?consistency=stale")
    assert answer.status in {200, 404}, answer.raw
    return answer.data["value"] if answer.status == 200 else None


def follows(leader: LabMember, far: LabMember) -> None:
    """With its lag told, which can't be less than the way."""
    revision, _ = put(leader, "far", "seen")
    eventually(lambda: stale(far, "far") == "seen", "the observer follows")
    answer = far.ask("GET", "/v1/kv/far?consistency=stale")
    lag_ms = int(answer.headers["tenure-lag-ms"])
    assert lag_ms >= one_way_ms
    assert int(answer.headers["tenure-applied-index"]) >= revision
    measured(f"what is read there is at most {lag_ms} ms old")


def costs_nothing(made: LabCluster, leader: LabMember, far: LabMember) -> None:
    """Writes with it and without it, by turns."""
    cables = [pair for pair in made.network.pairs if far.number in pair]
    times: dict[str, list[float]] = {"with": [], "without": []}
    for _ in range(3):
        made.network.heal()
        eventually(lambda: seat(made, far)[0]["lag"] == 0, "it has acknowledged all")
        times["with"] += [put(leader, "with", number)[1] for number in range(writes)]
        ahead = 0
        for number in range(writes):
            revision, _ = put(leader, "ahead", number)
            view, commit = seat(made, far)
            ahead += view["match_index"] < revision <= commit
        assert ahead > 0, "what was committed had been acknowledged by the observer each time"
        made.network.cut_only(cables)
        times["without"] += [put(leader, "without", number)[1] for number in range(writes)]
    made.network.heal()
    for what, took in times.items():
        measured(f"writes {what} an observer {one_way_ms} ms away: median {statistics.median(took):.1f} ms")
        waited = sum(each >= rtt_ms for each in took)
        assert waited < 3 / 4 * len(took), f"{waited} of {len(took)} writes took a round trip to the observer"


def serves_a_distant_node(made: LabCluster, far: LabMember, told: Path) -> None:
    """One that knows nobody else: its session, its writes, and what it hears, with the lag told."""
    with Events(far) as events:
        assert events.lag_ms >= one_way_ms
        endpoint = f"http://{far.node.address}:{api_port}"
        command = [sys.executable, "-m", "tests.e2e.holder", endpoint, "orders", "far", str(ttl_ms)]
        with told.open("wb") as out, inside(far.node.namespace):
            user = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                cwd=root,
                env={**environment(), "TENURE_SECRET_FILE": str(made.secret_file)},
            )
        try:
            granted = events.until("granted")
            assert granted["election"] == "orders"
            eventually(lambda: outlived(lines(told)) is not None, "its session is kept alive for several TTLs", 90.0)
            term = outlived(lines(told))
            assert term is not None
            eventually(
                lambda: any(line["kind"] == "wrote" for line in lines(told)), "it writes under its term through it"
            )
            eventually(lambda: "orders" in holds(made, "far"), "the cluster knows the node")
        finally:
            user.kill()
            user.wait()
        while events.until("ended")["term"] < term:
            pass
        measured(f"events there were at most {events.lag_ms} ms old when they began")


def holds(made: LabCluster, node: str) -> set[str]:
    """What the founders say of it."""
    reports = [report for member in made.founders if (report := member.status()) is not None]
    return {election for report in reports if node in report["nodes"] for election in report["nodes"][node]["holds"]}


def lines(told: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told.read_bytes().split(b"\n")[:-1]]


def outlived(told: list[dict[str, Any]]) -> int | None:
    """A term that was held all the time for longer than its lease would have lasted by itself."""
    begun: dict[int, int] = {}
    for line in told:
        if line["kind"] == "believed":
            first = begun.setdefault(line["term"], line["begin"])
            if line["end"] - first > 2 * ttl_ms * 1_000:
                term: int = line["term"]
                return term
    return None


class Events:
    """The event stream of a member, read beside it."""

    def __init__(self, member: LabMember) -> None:
        self._connection = member.connection(60.0).dial()
        self._connection.request("GET", "/v1/events", headers={"Authorization": f"Bearer {member.secret}"})
        self._stream = self._connection.getresponse()
        assert self._stream.status == 200
        self.lag_ms = int(self._stream.headers["tenure-lag-ms"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._connection.close()

    def until(self, kind: str) -> dict[str, Any]:
        """The next event of this kind."""
        name = ""
        while line := self._stream.readline().decode():
            head, _, rest = line.rstrip("\n").partition(": ")
            if head == "event":
                name = rest
            if head == "data" and name == kind:
                found: dict[str, Any] = json.loads(rest)
                return found
        raise AssertionError(f"the stream ended before {kind}")
