"""The processes that stand for an election, the faults done to them, and the judgement of what they told."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.e2e.cluster import Cluster, broken, environment, eventually, patience_s, root


@dataclass(frozen=True)
class Belief:
    """A stretch of CLOCK_BOOTTIME during which this node's own check surely passed."""

    begin: int
    end: int
    term: int
    node: str


@dataclass(frozen=True)
class Loss:
    """The end of a holding, as the holder saw it."""

    node: str
    term: int
    at: int
    cause: str
    demanded: bool

    @property
    def unasked(self) -> bool:
        """Neither given back nor asked for."""
        return not self.demanded and self.cause in {"expired", "session_lost", "revoked"}


@dataclass
class Application:
    """One node: its processes write into one file, one after the other."""

    node: str
    ttl_ms: int
    told: Path
    process: "subprocess.Popen[bytes] | None" = None

    def lines(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for line in self.told.read_bytes().split(b"\n") if self.told.exists() else []:
            with suppress(ValueError):  # the last line of one that was killed
                found.append(json.loads(line))
        return found


class Applications:
    """All of them; a context that ends them."""

    def __init__(
        self,
        endpoints: list[str],
        election: str,
        ttls: dict[str, int],
        folder: Path,
        own_environment: dict[str, str] | None = None,
    ) -> None:
        self._environment = {**environment(), **(own_environment or {})}
        self.endpoints = ",".join(endpoints)
        self.election = election
        self.all = {node: Application(node, ttl, folder / f"{node}.jsonl") for node, ttl in ttls.items()}

    def __enter__(self) -> Self:
        for node in self.all:
            self.start(node)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self.all.values():
            if each.process is not None:
                each.process.kill()
                each.process.wait()
                each.process = None
        if error is not None:
            for each in self.all.values():
                print(f"--- application {each.node}")
                print(each.told.with_suffix(".err").read_text(encoding="utf-8")[-3_000:])
                for line in [line for line in each.lines() if line["kind"] not in {"believed", "wrote"}][-40:]:
                    print(line)

    def start(self, node: str) -> None:
        each = self.all[node]
        with open(each.told, "ab") as told, open(each.told.with_suffix(".err"), "ab") as errors:
            each.process = subprocess.Popen(
                [sys.executable, "-m", "tests.e2e.holder", self.endpoints, self.election, node, str(each.ttl_ms)],
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=errors,
                cwd=root,
                env=self._environment,
                start_new_session=True,
            )

    def _pid(self, node: str) -> int:
        process = self.all[node].process
        assert process is not None
        return process.pid

    def leading(self) -> str:
        """The node that believes to lead, once one does."""
        found: str | None = None

        def somebody() -> bool:
            nonlocal found
            last = {node: self._last(node) for node in self.all}
            led = {node: line["term"] for node, line in last.items() if line is not None and line["kind"] == "led"}
            found = max(led, key=lambda node: led[node], default=None)
            return found is not None

        eventually(somebody, "somebody leads")
        assert found is not None
        return found

    def _last(self, node: str) -> dict[str, Any] | None:
        lines = [line for line in self.all[node].lines() if line["kind"] in {"led", "ended", "killed"}]
        return lines[-1] if lines else None

    def all_standing(self, members: Cluster) -> None:
        """Wait until every node is a candidate or holds."""

        def standing() -> bool:
            for member in members.running:
                with suppress(*broken):
                    answer = member.ask("GET", f"/v1/elections/{self.election}", timeout=2.0)
                    if answer.status == 200:
                        nodes = {each["node_id"] for each in answer.data["candidates"]} | {answer.data["node_id"]}
                        return set(self.all) <= nodes
            return False

        eventually(standing, "all applications stand")

    def freeze(self, node: str, seconds: float) -> None:
        """Longer than its lease: another must lead meanwhile, and this one must know it when it wakes."""
        os.kill(self._pid(node), signal.SIGSTOP)
        time.sleep(seconds)
        eventually(lambda: self.leading() != node, f"another leads while {node} is frozen")
        os.kill(self._pid(node), signal.SIGCONT)

    def kill(self, node: str) -> None:
        process = self.all[node].process
        assert process is not None
        process.kill()
        process.wait()
        with open(self.all[node].told, "ab") as told:
            told.write(b'\n{"kind": "killed"}\n')
        eventually(lambda: self.leading() != node, f"another leads after {node} was killed")
        self.start(node)

    def end(self) -> None:
        """A planned end of all; their accounts are complete."""
        for each in self.all.values():
            if each.process is not None:
                each.process.terminate()
        for each in self.all.values():
            if each.process is not None:
                each.process.wait(patience_s)
                each.process = None

    def written(self, node: str) -> list[dict[str, Any]]:
        """Its acknowledged writes so far."""
        return [line for line in self.all[node].lines() if line["kind"] == "wrote"]

    def wall_ahead_us(self, node: str) -> int:
        """CLOCK_REALTIME before CLOCK_BOOTTIME, as the node last read them while it led."""
        told: list[int] = [line["ahead"] for line in self.all[node].lines() if line["kind"] == "wall"]
        return told[-1] if told else 0

    # --- judgement ---------------------------------------------------------------------------------------------------

    def beliefs(self) -> list[Belief]:
        return sorted(
            (
                Belief(line["begin"], line["end"], line["term"], node)
                for node, each in self.all.items()
                for line in each.lines()
                if line["kind"] == "believed"
            ),
            key=lambda belief: (belief.begin, belief.end),
        )

    def losses(self) -> list[Loss]:
        return [
            Loss(node, line["term"], line["at"], line["cause"], line["demanded"])
            for node, each in self.all.items()
            for line in each.lines()
            if line["kind"] == "ended"
        ]

    def stalled_us(self, node: str, begin: int, end: int) -> int:
        """How long this process did not run within a stretch."""
        late = [line for line in self.all[node].lines() if line["kind"] == "late"]
        return sum(max(0, min(end, line["end"]) - max(begin, line["begin"])) for line in late)

    def judge(self, holdings: dict[int, dict[str, Any]]) -> None:
        """Two never believe at once, later beliefs have greater terms, and every term was granted, to just that
        node."""
        beliefs = self.beliefs()
        assert beliefs, "nobody ever led"
        for earlier, later in pairwise(beliefs):
            if (earlier.term, earlier.node) != (later.term, later.node):
                assert earlier.end < later.begin, f"two holders at once: {earlier} {later}"
                assert earlier.term < later.term, f"a lower term later: {earlier} {later}"
        for belief in beliefs:
            assert holdings[belief.term]["node_id"] == belief.node, f"{belief} was granted to {holdings[belief.term]}"
        told = [line | {"node": node} for node, each in self.all.items() for line in each.lines()]
        revived = [line for line in told if line["kind"] == "revived"]
        assert not revived, f"an old lease passes its check again: {revived}"
        trouble = [line for line in told if line["kind"] == "trouble"]
        assert not trouble, trouble
        written = sorted((line["revision"], line["term"]) for line in told if line["kind"] == "wrote")
        assert written, "no application ever wrote"
        for (_, term), (revision, following) in pairwise(written):
            assert term <= following, f"at revision {revision} a write of term {following} after one of {term}"
