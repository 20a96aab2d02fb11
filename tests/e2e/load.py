"""Clients that write and read all the time, repeat elsewhere what got no answer, and note what they learned.

Three kinds, by what makes a repetition safe: numbered requests of a client session, an Idempotency-Key, or nothing; the
last kind doesn't repeat a write that may have reached somebody. What nobody answered is noted as unknown.

Some also write under the terms of an election, the newest that they know or an older one, as a holder would that slept
too long; and without a term, which works until the first that has one.
"""

import random
import threading
import time
from typing import Final, Literal

from msgspec.structs import replace

from tests.e2e.cluster import Answer, Connection, Method, broken
from tests.sim.linearizability import OPEN, Operation

Style = Literal["sequence", "key", "bare"]
attempt_s: Final = 0.6
"""A frozen member is given up after this."""
patience_s: Final = 5.0
pause_s: Final = 0.004
"""Between two operations: the machine is shared with what is tested."""
shared_keys: Final = 3
fenced_keys: Final = 2


class Gone(Exception):
    """No member answered in time."""


class User(threading.Thread):
    """One client. `operations` and `odd` belong to the thread until it has ended."""

    def __init__(
        self,
        connections: list[Connection],
        number: int,
        style: Style,
        seed: int,
        stop: threading.Event,
        realm: str = "",
        election: str | None = None,
    ) -> None:
        """`connections`: one of its own to each member; their timeout is how long it waits for one answer. `realm`
        begins its keys, where several loads follow each other on one cluster. With an `election` that others hold it
        also writes under that one's terms.
        """
        super().__init__(name=f"user-{number}", daemon=True)
        self.election = election
        self.terms: list[int] = []
        """Of the election, as far as we have heard of them."""
        self.number = number
        self._realm = realm
        self.style = style
        self.operations: list[Operation] = []
        self.odd: list[str] = []
        """Answers that should never come."""
        self.acknowledged: dict[str, tuple[str, int]] = {}
        """Keys of our own, each written once: value and revision."""
        self.acks = 0
        self.last_ack = time.monotonic()
        self._stop_asked = stop
        self._rng = random.Random(seed)
        self._connections = connections
        self._at = number % len(connections)
        self._seen: dict[str, int] = {}
        self._client: str | None = None
        self._sequence = 0
        self._written = 0

    def run(self) -> None:
        try:
            while not self._stop_asked.is_set():
                self._one()
                time.sleep(pause_s * self._rng.random() * 2)
        except Exception as error:
            self.odd.append(f"{self.name} died: {error!r}")
            raise
        finally:
            for connection in self._connections:
                connection.close()

    def _one(self) -> None:
        dice = self._rng.random()
        key = f"{self._realm}shared/{self._rng.randrange(shared_keys)}"
        if dice < 0.1:
            self._written += 1
            self._put(f"{self._realm}own/{self.number}/{self._written}", None)
        elif dice < 0.4:
            self._put(key, None)
        elif dice < 0.6:
            self._put(key, self._seen.get(key, 0))
        else:
            self._get(key)
        if 0.1 <= dice < 0.25:
            self._move()  # what one member acknowledged must be read from the next at once
            self._get(key)
        if dice >= 0.85 and self.election is not None:
            self._fenced(f"{self._realm}fenced/{self._rng.randrange(fenced_keys)}")

    def _fenced(self, key: str) -> None:
        if self._rng.random() < 0.2 or not self.terms:
            self._hear()
        if self.terms:
            age = self._rng.choice((1, 1, 1, 1, 2, 3))
            term = None if self._rng.random() < 0.1 else self.terms[-min(age, len(self.terms))]
            self._put(key, None, term)
            self._move()
            self._get(key)

    def _hear(self) -> None:
        """Of the newest term, from whichever member."""
        try:
            answer = self._ask("GET", f"/v1/elections/{self.election}", None, {}, repeats=True)
        except Gone:
            return
        if answer.status == 200 and answer.data["term"] and answer.data["term"] not in self.terms:
            self.terms = sorted([*self.terms, answer.data["term"]])

    # --- operations --------------------------------------------------------------------------------------------------

    def _put(self, key: str, if_revision: int | None, term: int | None = None) -> None:
        value = f"{self.number}.{len(self.operations)}"
        body: dict[str, object] = {"value": value}
        if if_revision is not None:
            body["if_revision"] = if_revision
        if term is not None:
            body.update(election=self.election, term=term)
        try:
            headers = self._headers()
        except Gone:
            return  # nothing was sent
        asked = Operation(key, "put", time.monotonic_ns(), OPEN, "unknown", value, None, if_revision, self.name)
        if term is not None:
            asked = replace(asked, election=self.election, term=term)
        try:
            answer = self._ask("PUT", f"/v1/kv/{key}", body, headers, repeats=self.style != "bare")
        except Gone:
            self.operations.append(asked)
            return
        self.operations.append(self._answered(asked, answer))

    def _answered(self, asked: Operation, answer: Answer) -> Operation:
        """What came of a write."""
        key, returned = asked.key, time.monotonic_ns()
        if answer.status == 200:
            revision = answer.data["revision"]
            self._seen[key] = revision
            if key.startswith(f"{self._realm}own/"):
                self.acknowledged[key] = (asked.value or "", revision)
            self.acks += 1
            self.last_ack = time.monotonic()
            return replace(asked, outcome="ok", returned=returned, revision=revision)
        if answer.code == "revision_mismatch" and asked.if_revision is not None:
            return replace(asked, outcome="mismatch", returned=returned)
        if answer.code == "stale_term" and key.startswith(f"{self._realm}fenced/"):
            current = answer.data["current_term"]
            return replace(asked, outcome="stale", returned=returned, election=self.election, current_term=current)
        self.odd.append(f"PUT {key}: {answer.status} {answer.raw!r}")
        return asked

    def _get(self, key: str) -> None:
        called = time.monotonic_ns()
        try:
            answer = self._ask("GET", f"/v1/kv/{key}", None, {}, repeats=True)
        except Gone:
            return
        returned = time.monotonic_ns()
        if answer.status == 200:
            self._seen[key] = answer.data["revision"]
            value, revision = answer.data["value"], answer.data["revision"]
            self.operations.append(Operation(key, "get", called, returned, "ok", value, revision, None, self.name))
        elif answer.code == "unknown_key":
            self.operations.append(Operation(key, "get", called, returned, "ok", None, 0, None, self.name))
        else:
            self.odd.append(f"GET {key}: {answer.status} {answer.raw!r}")

    # --- how it is asked ---------------------------------------------------------------------------------------------

    def _headers(self) -> dict[str, str]:
        match self.style:
            case "bare":
                return {}
            case "key":
                return {"Idempotency-Key": f"{self._realm}{self.number}:{len(self.operations)}"}
            case "sequence":
                if self._client is None:
                    nonce = {"nonce": f"{self._rng.getrandbits(64):016x}"}
                    answer = self._ask("POST", "/v1/clients", nonce, {}, repeats=True)
                    self._client = answer.data["client"]
                self._sequence += 1
                number = str(self._sequence)  # what was given up is fenced off by the next one
                return {"Tenure-Client": self._client, "Tenure-Sequence": number, "Tenure-Answered-Below": number}

    def _ask(self, method: Method, path: str, body: object, headers: dict[str, str], *, repeats: bool) -> Answer:
        deadline = time.monotonic() + patience_s
        while True:
            try:
                answer = self._connections[self._at].ask(method, path, body, headers)
            except ConnectionRefusedError:
                answer = None  # nothing was sent: anybody may try elsewhere
            except broken:
                if not repeats:
                    self._move()
                    raise Gone from None
                answer = None
            if answer is not None and answer.status != 503:
                return answer
            self._move()
            if (answer is not None and not repeats) or time.monotonic() > deadline:
                raise Gone
            time.sleep(0.01)

    def _move(self) -> None:
        others = [at for at in range(len(self._connections)) if at != self._at]
        self._at = self._rng.choice(others)  # not all to the same: the next fault is only one member's
