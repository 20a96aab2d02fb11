"""A cluster of real processes whose members come and go: newcomers that join, witnesses, observers on a slow link."""

import asyncio
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from tenure.cli.demo_processes import free_ports
from tests.e2e.cluster import Answer, Cluster, Connection, Method, broken, environment, eventually, started
from tests.e2e.load import Style, User, attempt_s
from tests.e2e.measured import measured
from tests.sim.linearizability import Operation, check

_passing = {"not_caught_up", "change_pending", "no_quorum", "no_eligible_successor"}
"""What may have gone by itself a moment later."""


class Changing(Cluster):
    """The first `size` members found the cluster, the last `witnesses` of them as witnesses; the others join it."""

    def __init__(self, folder: Path, size: int, *, newcomers: int = 0, witnesses: int = 0, **flags: object) -> None:
        super().__init__(folder, size + newcomers, **flags)
        names = list(self.members)
        self.founders = names[:size]
        roles = dict.fromkeys(self.founders[size - witnesses :], "/witness")
        self.listed = ",".join(f"{name}=127.0.0.1:{self[name].peer}{roles.get(name, '')}" for name in self.founders)

    def command(self, name: str) -> list[str]:
        """Newcomers ask the founders, wherever they are by now."""
        line = super().command(name)
        if name not in self.founders:
            at = line.index("--cluster")
            asked = ",".join(
                f"http://127.0.0.1:{member.api}" for member in self.members.values() if member.name != name
            )
            line[at : at + 2] = ["--join", asked]
        return line

    def start_all(self) -> str:
        """Start the founders; the consensus leader's name, once it serves."""
        for name in self.founders:
            self.start(name)
        return self.leader()

    def leader_now(self) -> str | None:
        """Who says of itself that it leads, in the highest term: who belongs to the cluster changes."""
        found: list[tuple[int, str]] = []
        for member in self.running:
            report = member.status()
            if report is not None and report["consensus"]["leader"] == member.name:
                found.append((report["consensus"]["term"], member.name))
        return max(found, default=(0, None))[1]

    # --- members -----------------------------------------------------------------------------------------------------

    def asked(self, method: Method, path: str, body: object = None) -> Answer:
        """The answer of the first member that has one."""
        deadline = time.monotonic() + 30
        while True:
            for member in self.running:
                with suppress(*broken):
                    answer = member.ask(method, "/v1/members" + path, body)
                    if answer.status != 503:
                        return answer
            assert time.monotonic() < deadline, f"nobody answers {method} {path}"
            time.sleep(0.05)

    def roles(self) -> dict[str, str]:
        """Who belongs to the cluster."""
        answer = self.asked("GET", "")
        assert answer.status == 200, answer.raw
        return {seat["name"]: seat["role"] for seat in answer.data["members"]}

    def change(self, path: str, body: object = None) -> None:
        """Make it so, as soon as it can be."""
        answer: list[Answer] = []

        def made() -> bool:
            answer[:] = [self.asked("POST", path, body or {})]
            assert answer[0].status == 200 or answer[0].code in _passing, answer[0].raw
            return answer[0].status == 200

        eventually(made, f"{path} is made so")

    def joined(self, *names: str) -> None:
        """Start newcomers and wait until each is a member that has caught up."""
        for name in names:
            self.start(name)
        for name in names:
            eventually(self[name].ready, f"{name} has joined")

    def tenure(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """An operator's command."""
        line = [sys.executable, "-m", "tenure", *words, "--endpoints", ",".join(self.endpoints)]
        return subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=120, check=False)

    def told(self, *words: str) -> Any:
        """Its answer as JSON."""
        done = self.tenure(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def changing(
    folder: Path, size: int, *, newcomers: int = 0, witnesses: int = 0, **flags: object
) -> AbstractContextManager[Changing]:
    """A running one with a leader."""
    return started(Changing(folder, size, newcomers=newcomers, witnesses=witnesses, **flags))


class Load:
    """Clients that write and read all the time, and what they must have seen when it is over."""

    def __init__(self, members: Changing, styles: Sequence[Style] = ("sequence", "key", "bare")) -> None:
        self.members = members
        self._stop = threading.Event()
        rng = random.SystemRandom()
        ports = [member.api for member in members.members.values()]
        self.users = [
            User([Connection(port, attempt_s) for port in ports], number, style, rng.getrandbits(64), self._stop)
            for number, style in enumerate(styles)
        ]
        for user in self.users:
            user.start()

    def served(self, what: str, writes: int = 3) -> None:
        """Wait until each of some writes that began after now was acknowledged."""
        before = [user.acks for user in self.users]
        eventually(
            lambda: all(user.acks >= ack + writes for user, ack in zip(self.users, before, strict=True)),
            f"all clients write after: {what}",
            60.0,
        )

    def end(self) -> None:
        """End them; nothing acknowledged is lost, and all of it is one history."""
        self._stop.set()
        for user in self.users:
            user.join(60)
            assert not user.is_alive(), f"{user.name} hangs"
        odd = [text for user in self.users for text in user.odd]
        assert not odd, odd[:10]
        operations = [operation for user in self.users for operation in user.operations]
        self._nothing_is_lost()
        violations = check(operations)
        assert not violations, "\n".join(str(violation) for violation in violations)
        writes = sum(user.acks for user in self.users)
        measured(f"{len(operations)} operations, {writes} writes; longest write gap {gap_ms(operations)} ms")

    def _nothing_is_lost(self) -> None:
        """Read from the state of one member that serves, which has just answered a linearizable read."""
        leader = self.members[self.members.leader()]
        connection = Connection(leader.api)
        for user in self.users:
            for key, (value, revision) in user.acknowledged.items():
                answer = connection.ask("GET", f"/v1/kv/{key}?consistency=stale")
                assert answer.status == 200, (key, value, answer.raw)
                assert (answer.data["value"], answer.data["revision"]) == (value, revision), answer.raw
        connection.close()


def gap_ms(operations: Sequence[Operation]) -> int:
    """The longest time in which no write was acknowledged."""
    acked = sorted(one.returned for one in operations if one.kind == "put" and one.outcome == "ok")
    return max((later - sooner for sooner, later in pairwise(acked)), default=0) // 1_000_000


class Relay(threading.Thread):
    """A slow link: what comes in at `port` arrives at `target` after `delay_s`, and the other way round."""

    def __init__(self, target: int, delay_s: float) -> None:
        super().__init__(name=f"relay-{target}", daemon=True)
        (self.port,) = free_ports(1)
        self._target = target
        self._delay_s = delay_s
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._writers: list[asyncio.StreamWriter] = []
        self.start()
        assert self._ready.wait(10)

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._relay, "127.0.0.1", self.port))
        self._ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        for writer in self._writers:
            writer.transport.abort()
        self._loop.run_until_complete(asyncio.sleep(0.05))  # the transports say that they are closed
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def end(self) -> None:
        """No more relaying."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self.join(10)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self._writers.append(writer)
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.append(back)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._pass(reader, back), self._pass(there, writer), return_exceptions=True)
        for end in (writer, back):
            end.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            self._loop.call_later(self._delay_s, writer.write, data)
        self._loop.call_later(self._delay_s, writer.close)
