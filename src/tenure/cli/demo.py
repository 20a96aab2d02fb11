"""`tenure demo`: a real cluster, workers that are killed, stopped and frozen, and a ledger that refuses stale writes.

Everything runs on this machine, on free ports of loopback and in a temporary folder; nothing but Tenure is needed. Each
phase tells what it measured and what was promised; a broken promise ends the demo with status 1.
"""

import argparse
import json
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from tenure.agent.page import View
from tenure.base.errors import TenureError
from tenure.cli import demo_ledger as book
from tenure.cli.demo_ledger import ELECTION, now_us
from tenure.cli.demo_processes import Broken, Process, Watch, free_ports, is_stopped, send, stop, until
from tenure.client import Client
from tenure.client.errors import ClientError, Missing
from tenure.leadership.engine import ElectionView, StatusReport

MEMBERS: Final = ("m1", "m2", "m3")
WORKERS: Final = ("a", "b", "c")
TTL: Final = "500ms"
client_timeout_s: Final = 5.0
steady_s: Final = 0.3


class Account(Protocol):
    """Tells the story."""

    def phase(self, title: str) -> None:
        """A new chapter."""
        ...

    def tell(self, what: str, ms: float | None = None, **data: object) -> None:
        """One line, with the time that it took."""
        ...

    def promise(self, what: str, kept: bool) -> None:
        """A promise and whether it was kept."""
        ...


class Spoken:
    """For people."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def phase(self, title: str) -> None:
        """As `Account`."""
        print(f"\n{time.monotonic() - self._began:6.2f} s  {title}", flush=True)

    def tell(self, what: str, ms: float | None = None, **data: object) -> None:
        """As `Account`."""
        print(f"          {what:<72}{'' if ms is None else f'{ms:9.1f} ms'}".rstrip(), flush=True)

    def promise(self, what: str, kept: bool) -> None:
        """As `Account`."""
        print(f"          {'✓' if kept else '✗ BROKEN:'} {what}", flush=True)


class Lines:
    """For programs: one JSON object a line."""

    def phase(self, title: str) -> None:
        """As `Account`."""
        self._say(phase=title)

    def tell(self, what: str, ms: float | None = None, **data: object) -> None:
        """As `Account`."""
        self._say(fact=what, **({} if ms is None else {"ms": round(ms, 3)}), **data)

    def promise(self, what: str, kept: bool) -> None:
        """As `Account`."""
        self._say(promise=what, kept=kept)

    def _say(self, **data: object) -> None:
        print(json.dumps({"at_us": now_us(), **data}), flush=True)


def ms(from_us: int, to_us: int) -> float:
    """A span in milliseconds."""
    return (to_us - from_us) / 1000


class Demo:
    """The processes, the ledger and the account."""

    def __init__(self, folder: Path, account: Account) -> None:
        self.folder, self.account = folder, account
        self.broken = 0
        self.members: dict[str, Process] = {}
        self.agents: dict[str, Process] = {}
        self.others: list[Process] = []
        self.ledger = folder / "ledger.sqlite"
        self.database: sqlite3.Connection = book.create(self.ledger)
        ports = free_ports(2 * len(MEMBERS))
        self.api = dict(zip(MEMBERS, ports[: len(MEMBERS)], strict=True))
        self.peer = dict(zip(MEMBERS, ports[len(MEMBERS) :], strict=True))
        self.endpoints = ",".join(f"http://127.0.0.1:{port}" for port in self.api.values())
        self.client = Client(self.endpoints, timeout=client_timeout_s)

    # --- what stands ---

    def begin_members(self) -> None:
        """Three `tenure serve`."""
        cluster = ",".join(f"{name}=127.0.0.1:{port}" for name, port in self.peer.items())
        for name in MEMBERS:
            command = ["tenure", "serve", "--name", name, "--data-dir", str(self.folder / name)]
            command += ["--api", f"127.0.0.1:{self.api[name]}", "--peer", f"127.0.0.1:{self.peer[name]}"]
            self.members[name] = Process(name, self.folder, [*command, "--cluster", cluster], {})

    def begin_agent(self, node: str) -> None:
        """`tenure run orders … -- python -m tenure.cli.demo_worker LEDGER`."""
        command = ["tenure", "run", ELECTION, "--endpoints", self.endpoints, "--node", node, "--ttl", TTL, "--json"]
        worker = [sys.executable, "-m", "tenure.cli.demo_worker", str(self.ledger)]
        self.agents[node] = Process(f"worker-{node}", self.folder, [*command, "--", *worker], {})

    def end(self) -> None:
        """Everything that we started, by its own pid."""
        everything = [*self.others, *self.agents.values(), *self.members.values()]
        for process in everything:
            process.end()
        self.client.close()
        self.database.close()

    def logs(self) -> str:
        """The ends of all logs."""
        everything = [*self.members.values(), *self.agents.values(), *self.others]
        return "\n".join(f"--- {process.log.name}\n{process.tail()}" for process in everything)

    # --- what is looked at ---

    def promise(self, what: str, kept: bool) -> None:
        """Tell and count."""
        self.account.promise(what, kept)
        self.broken += not kept

    def status(self) -> StatusReport:
        """Linearizable."""
        return self.client.status()

    def election(self) -> ElectionView | None:
        """The office; None before anybody has stood for it."""
        with suppress(Missing):
            return self.client.election(ELECTION)
        return None

    def leader(self) -> tuple[str, int]:
        """Node and term of whoever leads, once somebody does and writes."""

        def look() -> tuple[str, int] | None:
            for agent in self.agents.values():
                if agent.popen.poll() not in {None, 137}:
                    raise Broken(f"{agent.name} ended with {agent.popen.returncode}")
            view = self.election()
            if view is None or view.node_id is None:
                return None
            newest = self.database.execute("SELECT term FROM ledger ORDER BY id DESC LIMIT 1").fetchone()
            return (view.node_id, view.term) if newest and newest[0] == view.term else None

        return until(look, "somebody leads and writes")

    def settled(self) -> tuple[str, int]:
        """The same, after a moment of steady writing, and with everybody standing again."""
        self.candidates(len(WORKERS))
        time.sleep(steady_s)
        return self.leader()

    def candidates(self, count: int) -> None:
        """Wait until so many stand, so that somebody can take over."""

        def look() -> bool:
            view = self.election()
            return view is not None and len(view.candidates) >= count

        until(look, f"{count} candidates stand")

    def successor(self, term: int, since_us: int) -> book.Row:
        """Wait for the first row under a newer term; tell how it came about, as the successor's agent saw it."""
        row = until(lambda: book.first_under(self.database, term), f"a row under a term above {term}")
        agent = self.agents.get(row.node)
        if agent:
            started = until(lambda: agent.event("started", since_us), f"the agent of {row.node} tells of its start")
            granted = agent.event("granted", since_us)
            assert granted is not None
            self.account.tell(f"{row.node} is granted term {row.term}", ms(since_us, granted["at_us"]), phase="granted")
            self.account.tell(f"{row.node}'s worker is started", ms(since_us, started["at_us"]), phase="started")
        text = f"{row.node} writes its first row under term {row.term}"
        self.account.tell(text, ms(since_us, row.at_us), phase="first_row", node=row.node, term=row.term)
        return row


# --- the chapters -----------------------------------------------------------------------------------------------------


def set_up(demo: Demo) -> None:
    """Three members, three workers."""
    demo.account.phase("A cluster of three members and three workers for one office")
    began = now_us()
    demo.begin_members()

    def founded() -> bool:
        for name, process in demo.members.items():
            if process.popen.poll() is not None:
                raise Broken(f"member {name} ended at its start")
        with suppress(ClientError):
            return demo.status().quorum
        return False

    until(founded, "the members found a cluster", 40.0)
    demo.account.tell(
        f"{', '.join(MEMBERS)} have founded a cluster of three processes",
        ms(began, now_us()),
    )
    began = now_us()
    for node in WORKERS:
        demo.begin_agent(node)
    demo.leader()
    demo.candidates(len(WORKERS))
    node, term = demo.leader()
    demo.account.tell(
        f"workers {', '.join(WORKERS)} stand; {node} leads under term {term} and writes", ms(began, now_us())
    )


def kill_consensus_leader(demo: Demo) -> None:
    """Chapter 1."""
    name = until(lambda: demo.status().consensus.leader, "a consensus leader")
    demo.account.phase(f"1. kill -9 of the consensus leader, {name}")
    node, term = demo.settled()
    for number in range(20):  # a client that writes all the time, warm
        demo.client.kv_put("demo/beat", number)
    killed = now_us()
    demo.members[name].kill()
    number = demo.client.kv_put("demo/beat", "after").revision
    acknowledged = now_us()
    report = demo.status()
    demo.account.tell("the next write of a client is acknowledged", ms(killed, acknowledged), revision=number)
    new, consensus_term = report.consensus.leader, report.consensus.term
    demo.account.tell(f"{new} leads the consensus in its term {consensus_term}", leader=new)
    until(lambda: now_us() > killed + 1_000_000, "a second passes")
    pause = book.longest_gap_us(book.rows(demo.database), killed, now_us())
    demo.account.tell(f"longest pause of {node}'s writing in the second after it", pause / 1000)
    demo.promise(
        f"{node} kept the office under term {term}: its lease outlives the member", demo.leader() == (node, term)
    )
    began = now_us()
    demo.members[name].again()
    until(lambda: _caught_up(demo, name), f"{name} has caught up", 30.0)
    demo.account.tell(f"{name}, started again, has caught up", ms(began, now_us()))


def _caught_up(demo: Demo, name: str) -> bool:
    """It answers by itself, and has applied what was committed when it was asked."""
    with suppress(ClientError), Client(f"http://127.0.0.1:{demo.api[name]}", timeout=1.0) as own:
        committed = demo.status().consensus.commit_index
        return own.status(stale=True).consensus.applied_index >= committed
    return False


def kill_leading_worker(demo: Demo) -> None:
    """Chapter 2."""
    node, term = demo.settled()
    demo.account.phase(f"2. kill -9 of the leading worker, {node}")
    started = demo.agents[node].event("started")
    assert started is not None
    dies = Watch(int(started["pid"]))
    killed = now_us()
    send(int(started["pid"]), signal.SIGKILL)
    dies.wait(now_us, "the worker dies")
    row = demo.successor(term, killed)
    demo.promise("another worker leads, without waiting for the lease's end", row.node != node)
    code = demo.agents[node].popen.wait(10)
    demo.promise(f"the agent of {node} ends with its worker's own status, {code}", code == 137)
    demo.agents[node].again()
    demo.candidates(len(WORKERS))


def step_down(demo: Demo) -> None:
    """Chapter 3."""
    node, term = demo.settled()
    demo.account.phase(f"3. POST /leadership/stepdown: {node} hands over")
    asked = now_us()
    done = demo.client.stepdown(ELECTION, reason="demo")
    demo.account.tell("answered: done", ms(asked, now_us()), to=done.to)
    row = demo.successor(term, asked)
    last = max((each.at_us for each in book.rows(demo.database) if each.term == term), default=asked)
    demo.account.tell(f"between {node}'s last row and {row.node}'s first", ms(last, row.at_us))
    demo.promise(f"another worker leads: {row.node}", row.node != node)
    demo.candidates(len(WORKERS))


def freeze_without_agent(demo: Demo) -> None:
    """Chapter 4: what no lease can prevent, the guard refuses."""
    demo.account.phase(
        "4. A fourth worker, d, leads by the SDK: no agent, no deadman. It is stopped between check and write"
    )
    command = ["tenure.cli.demo_worker", str(demo.ledger), "d"]
    sdk = Process("worker-d", demo.folder, command, {"TENURE_ENDPOINTS": demo.endpoints})
    demo.others.append(sdk)
    demo.candidates(len(WORKERS) + 1)
    demo.client.stepdown(ELECTION, successor="d")
    leading = until(lambda: sdk.event("leading"), "d leads")
    term = int(leading["term"])
    until(lambda: demo.leader() == ("d", term), "d writes")
    time.sleep(steady_s)
    assert sdk.popen.stdin is not None
    sdk.popen.stdin.write(b"freeze\n")
    sdk.popen.stdin.flush()
    checked = until(lambda: sdk.event("checked"), "d has checked its lease")
    until(lambda: is_stopped(sdk.pid), "d is stopped")
    frozen = now_us()
    left = checked["remaining_ms"]
    demo.account.tell(f"d's check passed: term {term}, {left:.0f} ms of lease left. Then SIGSTOP, before the write")
    demo.promise("the check had passed", left > 0)
    row = demo.successor(term, frozen)
    demo.promise(f"{row.node} was granted term {row.term} > {term}, and writes", row.node != "d" and row.term > term)
    before = len([each for each in book.rows(demo.database) if each.term == term])
    send(sdk.pid, signal.SIGCONT)
    demo.account.tell("SIGCONT: d goes on where it stood, straight to its write")
    refused = until(lambda: sdk.event("refused"), "the ledger's guard answers d")
    text = f"the ledger refused it: term {refused['term']} is stale, it has seen term {refused['current_term']}"
    demo.account.tell(text, term=refused["term"], current_term=refused["current_term"])
    after = len([each for each in book.rows(demo.database) if each.term == term])
    demo.promise("d's late write was refused by the resource itself, and left nothing", before == after)
    valid = demo.client.validate(election=ELECTION, term=term)
    demo.promise(f"POST /fence-token/validate says of term {term}: {valid.reason}", not valid.valid)
    sdk.popen.wait(10)


def freeze_under_agent(demo: Demo) -> None:
    """Chapter 5: the same freeze, and the kernel's timer."""
    node, term = demo.settled()
    demo.account.phase(f"5. The same freeze under `tenure run`: worker, guardian and agent of {node} are all stopped")
    agent = demo.agents[node]
    started = agent.event("started", max(each["at_us"] for each in agent.events() if each["event"] == "granted"))
    assert started is not None
    pid = int(started["pid"])
    page, guardian = _page_of(pid)
    dies = Watch(pid)
    stop([agent.pid, guardian, pid])
    frozen = now_us()
    lease_end = page.read().valid_until
    dead = dies.wait(now_us, f"the stopped worker of {node} dies")
    demo.account.tell("all of it is stopped; its lease has left", ms(frozen, lease_end))
    demo.account.tell("the kernel's timer kills the stopped guardian, and the worker with it", ms(frozen, dead))
    margin = ms(dead, lease_end)
    demo.promise(f"the frozen worker was dead {margin:.1f} ms before its lease ended", margin > 0)
    page.close()
    row = demo.successor(term, frozen)
    demo.promise(f"{row.node} wrote under term {row.term} only after that lease", row.at_us > lease_end)
    woken = now_us()
    send(agent.pid, signal.SIGCONT)
    lost = until(lambda: agent.event("standing", woken), f"the agent of {node}, continued, stands again")
    demo.account.tell(f"SIGCONT: the agent of {node} finds its lease and its worker gone, and stands again")
    demo.promise(f"{row.node} leads on", demo.settled() == (row.node, row.term) and bool(lost))


def _page_of(pid: int) -> tuple[View, int]:
    """The lease's page as the worker sees it, and its guardian's pid, both from the worker's environment."""
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    environment: dict[bytes, bytes] = dict(entry.split(b"=", 1) for entry in entries if b"=" in entry)
    path = environment[b"TENURE_LEASE_PATH"].decode()
    with open(path, "rb") as file:
        return View(file.fileno()), int(path.split("/")[2])


def look_back(demo: Demo) -> None:
    """The end: the ledger against itself, and against the cluster's history."""
    demo.account.phase("Looking back at the ledger")
    written = book.rows(demo.database)
    holdings = demo.client.history(ELECTION, limit=100).holdings
    wrong = book.findings(written, holdings)
    for line in wrong[:10]:
        demo.promise(line, kept=False)
    for holding in sorted(holdings, key=lambda each: each.term):
        count = sum(1 for each in written if each.term == holding.term)
        text = (
            f"term {holding.term}  {holding.node_id}  {count:5} rows   began: {holding.began}, ended: {holding.ended}"
        )
        demo.account.tell(text, term=holding.term, rows=count)
    terms = f"{len(written)} rows under {len({row.term for row in written})} terms"
    demo.promise(f"{terms}: none was written under a stale term", not wrong)


CHAPTERS: Final[tuple[Callable[[Demo], None], ...]] = (
    kill_consensus_leader,
    kill_leading_worker,
    step_down,
    freeze_without_agent,
    freeze_under_agent,
    look_back,
)


def run(account: Account, keep: Path | None = None) -> int:
    """All of it; 0 if every promise was kept. `keep`: a folder that is left behind, with ledger and logs."""
    folder = keep or Path(tempfile.mkdtemp(prefix="tenure-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    demo = Demo(folder, account)
    try:
        set_up(demo)
        began = now_us()
        for chapter in CHAPTERS:
            chapter(demo)
        demo.account.tell("from the end of the set-up until here", ms(began, now_us()))
    except (TenureError, AssertionError, OSError) as error:
        demo.promise(f"{type(error).__name__}: {error}", kept=False)
        sys.stderr.write(demo.logs() + "\n")
    finally:
        demo.end()
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    if demo.broken:
        account.tell(f"{demo.broken} promises were broken", broken=demo.broken)
    return 1 if demo.broken else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """`tenure demo [--json] [--keep FOLDER]`."""
    parser = argparse.ArgumentParser(prog="tenure demo", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave ledger and logs there")
    given: Any = parser.parse_args(arguments)
    return run(Lines() if given.json else Spoken(), given.keep)


if __name__ == "__main__":
    sys.exit(main())
