"""`python -m bench.endurance`: many writes over few keys, and what that leaves: disk, memory, lateness, restarts.

Three `tenure serve` with their default settings take `--writes` puts over `--keys` keys. Early on one follower is
killed; after 60 % of the writes it comes back, far behind, and catches up while they go on; after 80 % an observer
joins with an empty directory. Then members are restarted.
Printed are the largest disk and memory that a member had, how late its loop was, how long writes took and the longest
time without one, the catch-up, and the restarts.
"""

import argparse
import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.http1 import Http1Lane, request
from bench.measure import quantile
from bench.processes import Child, scratch
from tenure.cli.demo_processes import free_ports

TENURE: Final = str(Path(sys.executable).parent / "tenure")
NAMES: Final = ("m1", "m2", "m3")
patience_s: Final = 120
caught_up_entries: Final = 1_000
"""Lag at which a follower counts as caught up while writes go on: a tenth of a second's."""
look_s: Final = 0.25
"""How often disk and memory are looked at."""


class Member:
    """One process, its folder, and the most that it ever had."""

    def __init__(self, name: str, api: int, peer: int, folder: Path, flags: list[str]) -> None:
        self.name = name
        self.api = api
        self.folder = folder / name
        command = [TENURE, "serve", "--name", name, "--data-dir", str(self.folder), "--api", f"127.0.0.1:{api}"]
        command += ["--peer", f"127.0.0.1:{peer}", *flags]
        self.child = Child(name, command, folder)
        self.disk_mb = 0.0
        self.rss_mb = 0.0
        self.lateness: dict[float, int] = {}
        """Of all its lives: how many deadlines were served so late at most."""

    async def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """One request on a connection of its own; `OSError` without a good answer."""
        loop = asyncio.get_running_loop()
        _, lane = await loop.create_connection(Http1Lane, "127.0.0.1", self.api)
        answer: asyncio.Future[bytes | None] = loop.create_future()
        try:
            message = request(method, path, f"127.0.0.1:{self.api}", body)
            lane.ask(message, lambda found: None if answer.done() else answer.set_result(found))
            async with asyncio.timeout(10):
                found = await answer
        finally:
            lane.close()
        if found is None:
            raise ConnectionError(f"{method} {path} failed at {self.name}")
        return found

    async def status(self) -> dict[str, Any]:
        """What it knows."""
        found = msgspec.json.decode(await self.ask("GET", "/status?consistency=stale"))
        assert isinstance(found, dict)
        return found

    async def ready(self) -> bool:
        """It answers, in touch with a leader."""
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await self.ask("GET", "/readyz")
            return True
        return False

    def look(self) -> None:
        """Disk and memory now."""
        used = 0
        for file in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                used += file.stat().st_blocks * 512
        self.disk_mb = max(self.disk_mb, used / 1e6)
        if self.child.alive:
            self.rss_mb = max(self.rss_mb, self.child.rss_mb())

    async def scrape(self) -> None:
        """Take the lateness of this life."""
        text = (await self.ask("GET", "/metrics")).decode()
        before = 0
        for bound, count in re.findall(r'tenure_loop_lateness_seconds_bucket\{le="([^"]+)"\} ([0-9.e+]+)', text):
            total = int(float(count))
            self.lateness[float(bound)] = self.lateness.get(float(bound), 0) + total - before
            before = total

    def late(self, share: float) -> str:
        """The bucket of a quantile, in ms; what isn't late at all isn't counted by the member."""
        total, seen = sum(self.lateness.values()), 0
        for bound, count in sorted(self.lateness.items()):
            seen += count
            if total and seen >= share * total:
                return f"≤{bound * 1000:g}"
        return "-"


class Writes:
    """Closed loops over many connections, until there were enough."""

    def __init__(self, bodies: list[bytes], total: int) -> None:
        self._bodies = bodies
        self._total = total
        self.begun = 0
        self.done = 0
        self.failed = 0
        self.times: list[float] = []
        self.longest_gap_s = 0.0
        self._last = time.perf_counter()
        self._open = 0
        self.over = asyncio.Event()
        self._wanted = total
        self._reached = asyncio.Event()

    async def reached(self, count: int) -> None:
        """Wait until so many have begun."""
        self._wanted = count
        self._reached.clear()
        await self._reached.wait()

    def drive(self, lane: Http1Lane) -> None:
        """Ask and ask again on this connection."""
        if self.begun >= self._total or lane.lost:
            lane.close()
            return
        body = self._bodies[self.begun % len(self._bodies)]
        self.begun += 1
        if self.begun >= self._wanted:
            self._reached.set()
        self._open += 1
        start = time.perf_counter()

        def answered(found: bytes | None) -> None:
            now = time.perf_counter()
            self._open -= 1
            if found is None:
                self.failed += 1
            else:
                self.done += 1
                self.times.append(now - start)
                self.longest_gap_s = max(self.longest_gap_s, now - self._last)
                self._last = now
            if self.begun >= self._total and not self._open:
                self.over.set()
            self.drive(lane)

        lane.ask(body, answered)


class Endurance:
    """The cluster and the figures."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        apis, peers = free_ports(4), free_ports(4)
        cluster = ",".join(f"{name}=127.0.0.1:{port}" for name, port in zip(NAMES, peers, strict=False))
        flags = [part for flag in options.flag for part in ("--" + flag).split("=", 1)]
        founding = ["--cluster", cluster, *flags]
        self.members = [Member(name, apis[at], peers[at], folder, founding) for at, name in enumerate(NAMES)]
        joining = ["--join", ",".join(f"http://127.0.0.1:{port}" for port in apis[:3]), *flags]
        self.fresh = Member("o1", apis[3], peers[3], folder, joining)
        self.rows: list[tuple[str, str]] = []

    def note(self, what: str, figure: str) -> None:
        """A line of the result, told at once."""
        self.rows.append((what, figure))
        print(f"{what:<58} {figure}", flush=True)

    async def until(self, true: Callable[[], Any], what: str) -> float:
        """Wait; how long it took."""
        begun = time.perf_counter()
        while not await true():
            if time.perf_counter() - begun > patience_s:
                raise TimeoutError(what)
            await asyncio.sleep(0.01)
        return time.perf_counter() - begun

    async def leader(self) -> Member:
        """Who leads, as a living member says."""
        while True:
            for member in self.members:
                with contextlib.suppress(OSError, asyncio.TimeoutError):
                    name = (await member.status())["consensus"]["leader"]
                    if name is not None:
                        return next(one for one in self.members if one.name == name)
            await asyncio.sleep(0.05)

    async def watch(self) -> None:
        """Disk and memory, again and again."""
        while True:
            for member in self.members:
                member.look()
            await asyncio.sleep(look_s)

    async def run(self) -> None:
        """The whole story."""
        for member in self.members:
            member.child.start()
        for member in self.members:
            await self.until(member.ready, f"{member.name} is not ready")
        watching = asyncio.create_task(self.watch())
        try:
            await self.write()
            await self.restarts()
        finally:
            watching.cancel()
        for member in self.members:
            late = f"p99 {member.late(0.99)} ms, p99.9 {member.late(0.999)} ms, most {member.late(1)} ms"
            self.note(f"{member.name}: disk, memory at most", f"{member.disk_mb:.1f} MB, {member.rss_mb:.0f} MB")
            self.note(f"{member.name}: loop lateness (of late ones)", late)

    async def write(self) -> None:
        """All writes, with a follower that is away for a while, and an observer that comes anew."""
        options, leader = self.options, await self.leader()
        value = "v" * options.value_bytes
        host = f"127.0.0.1:{leader.api}"
        bodies = [
            request("PUT", f"/v1/kv/key/{number:06d}", host, b'{"value":"%b"}' % value.encode())
            for number in range(options.keys)
        ]
        writes = Writes(bodies, options.writes)
        begun = time.perf_counter()
        for _ in range(options.lanes):
            _, lane = await asyncio.get_running_loop().create_connection(Http1Lane, "127.0.0.1", leader.api)
            writes.drive(lane)
        away = next(member for member in self.members if member is not leader)
        await self.after(writes, 0.05)
        await away.scrape()
        away.child.signal(signal.SIGKILL)
        away.child.reap()
        await self.after(writes, 0.6)
        before = len(writes.times)
        await self.catch_up(away, leader, writes, "a follower that was away")
        during = writes.times[before:]
        await self.after(writes, 0.8)
        before = len(writes.times)
        await self.catch_up(self.fresh, leader, writes, "a fresh observer")
        self.members.append(self.fresh)
        joining = writes.times[before:]
        await writes.over.wait()
        took = time.perf_counter() - begun
        self.note("writes", f"{writes.done} in {took:.0f} s: {writes.done / took:.0f}/s, {writes.failed} failed")
        self.note("write latency", self.latency(writes.times))
        self.note("write latency while the follower catches up", self.latency(during))
        self.note("write latency while the observer does", self.latency(joining))
        self.note("longest time without an acknowledged write", f"{writes.longest_gap_s * 1000:.0f} ms")

    @staticmethod
    def latency(times: list[float]) -> str:
        """In ms."""
        ms = [each * 1000 for each in times]
        shares = ((0.5, "p50"), (0.99, "p99"), (0.999, "p99.9"))
        found = ", ".join(f"{name} {quantile(ms, share):.1f}" for share, name in shares)
        return f"{found}, most {max(ms, default=0):.0f} ms"

    async def after(self, writes: Writes, share: float) -> None:
        """Wait for a part of the writes."""
        await writes.reached(int(share * self.options.writes))

    async def catch_up(self, away: Member, leader: Member, writes: Writes, who: str) -> None:
        """It comes to a log that was cut long ago."""
        behind = (await leader.status())["consensus"]["applied_index"]
        started = time.perf_counter()
        away.child.start()

        async def near() -> bool:
            if writes.over.is_set():
                raise TimeoutError("all writes are done, and it hasn't caught up")
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                last = (await leader.status())["consensus"]["applied_index"]
                return bool(last - (await away.status())["consensus"]["applied_index"] < caught_up_entries)
            return False

        await self.until(near, f"{who} doesn't catch up")
        took = time.perf_counter() - started
        self.note(f"{who} catches up while writes go on", f"{took:.2f} s ({behind} entries behind)")

    async def restarts(self) -> None:
        """A follower by kill -9, then all members by SIGTERM."""
        leader = await self.leader()
        for member in self.members:
            await member.scrape()
        follower = next(member for member in self.members if member is not leader)
        follower.child.signal(signal.SIGKILL)
        follower.child.reap()
        started = time.perf_counter()
        follower.child.start()
        await self.until(follower.ready, "the follower is not ready again")
        took = time.perf_counter() - started
        self.note("restart after kill -9, to ready", f"{took:.2f} s ({follower.child.cpu_s():.2f} s of a core)")
        for member in self.members:
            member.child.signal(signal.SIGTERM)
        for member in self.members:
            member.child.reap(30)
        started = time.perf_counter()
        for member in self.members:
            member.child.start()
        for member in self.members:
            await self.until(member.ready, f"{member.name} is not ready again")
        took, spent = time.perf_counter() - started, max(member.child.cpu_s() for member in self.members)
        self.note("restart of all four after SIGTERM, to all ready", f"{took:.2f} s ({spent:.2f} s of a core each)")
        for member in self.members:
            member.look()

    def stop(self) -> None:
        """End what was started."""
        for member in self.members:
            member.child.stop()


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.endurance", description=__doc__)
    parser.add_argument("--writes", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--value-bytes", type=int, default=100)
    parser.add_argument("--lanes", type=int, default=64, help="connections, each with one write under way")
    parser.add_argument("--flag", action="append", default=[], metavar="NAME=VALUE", help="for `tenure serve`")
    options = parser.parse_args()
    with scratch() as folder:
        endurance = Endurance(options, Path(folder))
        print(
            f"{options.writes} writes of {options.value_bytes} bytes over {options.keys} keys, {os.cpu_count()} cores"
        )
        try:
            asyncio.run(endurance.run())
        except BaseException:
            for member in endurance.members:
                print(f"--- {member.name}\n{member.child.log_tail()}", file=sys.stderr)
            raise
        finally:
            endurance.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
