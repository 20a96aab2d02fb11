"""Users that stand for one office, a process beside each member, and what they told; `holder` is what they run."""

import json
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from lab import holder, offices
from lab.ground import inside
from lab.members import LabCluster, LabMember, api_port, patience_s
from tests.e2e.cluster import broken, environment, eventually, root

office: Final = "office"
ttl_least_ms: Final = 1_000
ttl_in_rtts: Final = 10
"""Ten round trips beside: a cable that heals costs some, and an office that flaps tells nothing about partitions."""
grace_ms: Final = 500
history_max: Final = 50
stop_s: Final = 10.0


class Account:
    """One node's, as far as it was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def fresh(self) -> list[dict[str, Any]]:
        """The lines that were told since the last time."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._read)
            told = file.read()
        whole = told[: told.rfind(b"\n") + 1]
        self._read += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


class Holders:
    """All of them, from `with` to its end. `granted`: nodes by term, as the cluster told them."""

    def __init__(self, made: LabCluster, folder: Path) -> None:
        self.accounts = offices.Accounts()
        self.granted: dict[int, str] = {}
        self.ledger = folder / "ledger.db"
        self._made = made
        self._folder = folder
        self._told = {member.name: Account(folder / f"{member.name}-holder.jsonl") for member in made.members}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._judged: set[str] = set()
        self._looked = 0
        """So many of the accepted writes."""

    def __enter__(self) -> Self:
        holder.found(self.ledger, office)
        self.rest()
        try:
            for member in self._made.members:
                self._start(member)
            eventually(lambda: self._standing() >= set(self._told), "all users stand", patience_s)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is not None:
            for name, account in self._told.items():
                words = account.path.with_suffix(".err").read_text(encoding="utf-8", errors="replace")
                print(f"--- the user beside {name}\n{words[-3_000:]}", file=sys.stderr)

    def _start(self, member: LabMember) -> None:
        """Its own member first among those that it asks, as in any sound installation. It ends with the lab."""
        others = [each for each in self._made.members if each is not member]
        endpoints = ",".join(f"http://{each.node.address}:{api_port}" for each in (member, *others))
        ttl_ms = ttl_least_ms + int(ttl_in_rtts * self._made.network.weather.rtt_ms)
        command = [sys.executable, "-m", "lab.holder", endpoints, office, member.name, str(ttl_ms), str(self.ledger)]
        own = {**environment(), "TENURE_SECRET_FILE": str(self._made.secret_file)}
        told = self._told[member.name].path
        with told.open("ab") as out, told.with_suffix(".err").open("ab") as errors, inside(member.node.namespace):
            self._processes[member.name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL, stdout=out, stderr=errors, cwd=root, env=own,
            )  # fmt: skip

    def rest(self) -> None:
        """Nobody works from about now on; who holds the office goes on to hold it."""
        holder.resting(self.ledger).touch()

    def work(self) -> None:
        """Whoever holds the office works under it, from about now on."""
        holder.resting(self.ledger).unlink()

    def stop(self) -> None:
        """A planned end of all; then their accounts are complete. May be called twice."""
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            try:
                process.wait(stop_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes = {}
        self.listen()

    # --- judgement ---------------------------------------------------------------------------------------------------

    def refused_all(self, patience: float) -> None:
        """Wait until each guard has refused every token that is older than one that it has accepted."""

        def none_left() -> bool:
            self.listen()
            return not offices.unrefused(self.accounts)

        eventually(none_left, "stale tokens are refused", patience)

    def wrong(self) -> list[str]:
        """What is wrong in all that was told until now, and wasn't said before. The members have settled."""
        self.listen()
        found = [*self._history(), *offices.wrong(self.accounts, self.granted), *self._lost()]
        fresh = [each for each in found if each not in self._judged]
        self._judged.update(fresh)
        return fresh

    def _history(self) -> list[str]:
        """The newest grants; each term is granted once, and terms rise (S17)."""
        holdings: list[dict[str, Any]] = []

        def told() -> bool:
            answer = self._answer(f"/v1/elections/{office}/history?limit={history_max}")
            holdings[:] = answer.get("holdings", [])
            return bool(holdings)

        eventually(told, "the office's history", patience_s)
        terms = [holding["term"] for holding in holdings]
        found = [] if terms == sorted(set(terms), reverse=True) else [f"terms of the history don't rise: {terms}"]
        for holding in holdings:
            term, node = holding["term"], holding["node_id"]
            if self.granted.setdefault(term, node) != node:
                found.append(f"term {term} was granted to {self.granted[term]} and to {node}")
        return found

    def _lost(self) -> list[str]:
        """Guarded writes that were acknowledged since the last look, and that a member or the ledger doesn't hold."""
        fresh = self.accounts.accepted[self._looked :]
        self._looked = len(self.accounts.accepted)
        keys = [one for one in fresh if one.guard == "cluster"]
        found = []
        for member in self._made.running:
            connection = member.connection()
            for one in keys:
                answer = connection.ask("GET", f"/v1/kv/{one.name}?consistency=stale")
                if answer.status != 200 or (answer.data["value"], answer.data["revision"]) != (one.value, one.place):
                    found.append(f"{member.name} holds {answer.raw!r} for {one}")
            connection.close()
        database = holder.opened(self.ledger)
        rows = {row: rest for row, *rest in database.execute(f"SELECT id, term, name FROM {holder.table}")}
        database.close()
        entries = (one for one in fresh if one.guard == "ledger")
        return found + [f"the ledger holds no {one}" for one in entries if rows.get(one.place) != [one.term, one.name]]

    # --- looks -------------------------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Hear what they have told since the last time."""
        for node, account in self._told.items():
            for line in account.fresh():
                self.accounts.hear(node, line)

    def holder_now(self) -> str | None:
        """Whom the cluster has granted the office; None while nobody says so."""
        return self._asked().get("node_id")

    def _standing(self) -> set[str]:
        told = self._asked()
        return {str(each["node_id"]) for each in told.get("candidates", [])} | {str(told.get("node_id"))}

    def _asked(self) -> dict[str, Any]:
        return self._answer(f"/v1/elections/{office}")

    def _answer(self, path: str) -> dict[str, Any]:
        """Of the first member that has one; none is empty."""
        for member in self._made.running:
            with suppress(*broken):
                answer = member.ask("GET", path)
                if answer.status == 200 and isinstance(answer.data, dict):
                    return answer.data
        return {}

    def move_to(self, member: LabMember) -> None:
        """Have the office held beside this member, and be believed there."""

        def held() -> bool:
            holding = self.holder_now()
            if holding != member.name:
                asked = {"election": office, "successor": member.name, "grace_ms": grace_ms}
                if holding is not None:
                    with suppress(*broken):
                        member.ask("POST", "/leadership/stepdown", asked)
                return False
            self.listen()
            last = max(self.accounts.beliefs, key=lambda belief: belief.end, default=None)
            return last is not None and last.node == member.name

        eventually(held, f"the office is held beside {member.name}", patience_s)

    def held_again_us(self, since_us: int, patience: float) -> int:
        """Wait until somebody works under the office since then; how long that took."""
        found: list[int] = []

        def held() -> bool:
            self.listen()
            instant = offices.held_from(self.accounts.accepted, since_us)
            found[:] = [] if instant is None else [instant]
            return bool(found)

        eventually(held, "the office is held again", patience)
        return found[0] - since_us
