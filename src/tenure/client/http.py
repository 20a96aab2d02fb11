"""Questions and orders to the cluster over HTTP, with retries that are safe (P9.1).

Any member answers: what only the consensus leader can, it forwards. A call that finds no answer at one endpoint goes to
the next at once, until its deadline. One that changes something carries (client session, sequence, answered_below), so
it takes effect once however often it is sent; one that was given up is fenced off by the next one's `answered_below`.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, Self, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import urllib3
from msgspec import Struct

from tenure.base.chance import Rng
from tenure.base.errors import Invalid
from tenure.base.ids import election_name, kv_key
from tenure.client import endpoints as where
from tenure.client.clocks import fresh_rng
from tenure.client.errors import (
    ClientError,
    LeftBehind,
    NoQuorum,
    OutcomeUnknown,
    ProtocolError,
    TimedOut,
    Unreachable,
    of_refused,
)
from tenure.client.known import Known, header
from tenure.client.numbers import Numbers, Ticket
from tenure.leadership.engine import (
    AsOf,
    ClientOpened,
    Code,
    Configured,
    ElectionConfig,
    ElectionView,
    HistoryPage,
    KvKeys,
    KvWritten,
    Refused,
    StatusReport,
    Stepped,
    Validated,
)
from tenure.wire.bodies import KvValueBody, Problem, refusal_of

T = TypeVar("T")
Method = Literal["GET", "PUT", "POST", "PATCH", "DELETE"]

timeout_seconds_default: Final = 10.0
attempt_seconds_max: Final = 2.5
"""A member ends a call without a quorum after 2 s; one that says nothing for longer is frozen or gone."""
connect_seconds_max: Final = 1.0
_stream_seconds_max: Final = 30.0
"""Without a byte of a snapshot."""
_stream_bytes: Final = 256 * 1024
_pause_seconds: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Between rounds over all endpoints; the last one repeats."""
_elsewhere: Final[frozenset[Code]] = frozenset(
    {"no_quorum", "founding", "joining", "no_state", "no_part", "too_many", "forked", "wrong_lineage"}
)
"""Another member may answer, or this one later."""
_too_short: Final = "Give it more time (--timeout): a member without a quorum says so after two seconds."
_encode: Final = msgspec.json.Encoder().encode


class Item(Struct, frozen=True):
    """A key's value as Python, with the revision of its last write."""

    key: str
    value: Any
    revision: int
    election: str | None = None
    term: int | None = None
    as_of: AsOf | None = None
    """Of a stale read: how old it is."""


class _Answer(Struct, frozen=True):
    status: int
    data: bytes


class Client:
    """Asks the cluster. Thread-safe; cheap to make; `with Client(...) as client` closes its connections.

    `timeout`: seconds that a call may take in all, over all endpoints. Raises the types of `tenure.client.errors`.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str] | None = None,
        *,
        secret: str | None = None,
        timeout: float = timeout_seconds_default,
        rng: Rng | None = None,
    ) -> None:
        self._endpoints = list(where.endpoints(endpoints))
        self._timeout = timeout
        self._given_rng = rng
        credential = where.secret_of(secret)
        self._headers = {} if credential is None else {"Authorization": f"Bearer {credential}"}
        self._known = Known()
        self._preferred = 0
        self._fresh()

    def _fresh(self) -> None:
        self._pid = os.getpid()
        self._numbers = Numbers(self._given_rng or fresh_rng())
        self._pool = urllib3.PoolManager(num_pools=64, maxsize=8, retries=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client can still be used."""
        self._pool.clear()

    # --- calls -------------------------------------------------------------------------------------------------------

    def status(self, *, stale: bool = False) -> StatusReport:
        """Everything at a glance. Without a quorum it is what the member knows, with `quorum` false."""
        report = _decoded(self._status(stale), StatusReport)
        self._learn(report)
        return report

    def status_json(self, *, stale: bool = False) -> bytes:
        """The same as the member wrote it."""
        return self._status(stale).data

    def _status(self, stale: bool) -> _Answer:
        return self._call("GET", "/status" + ("?consistency=stale" if stale else ""), accepts_503=True)

    def stepdown(
        self,
        election: str | None = None,
        *,
        successor: str | None = None,
        reason: str | None = None,
        grace_ms: int = 5_000,
        wait_ms: int | None = None,
        fenced_off: bool = False,
    ) -> Stepped:
        """Ask the holder of `election` to hand over, or move the consensus leader; waits up to `wait_ms` for it."""
        if election is not None:
            election_name(election)
        body = {
            "election": election,
            "successor": successor,
            "reason": reason,
            "grace_ms": grace_ms,
            "wait_ms": wait_ms,
            "fenced_off": fenced_off,
        }
        body = {name: value for name, value in body.items() if value is not None}
        waits = (grace_ms + 1_000 if wait_ms is None else wait_ms) / 1_000
        return _decoded(self._change("POST", "/leadership/stepdown", body, waits=waits), Stepped)

    def validate(self, token: str | None = None, *, election: str | None = None, term: int | None = None) -> Validated:
        """Is this fencing token, or this election with this term, the one that is current now? Linearizable."""
        body = {"token": token} if token is not None else {"election": election, "term": term}
        return _decoded(self._call("POST", "/fence-token/validate", body), Validated)

    def election(self, name: str, *, after: int | None = None, wait_ms: int | None = None) -> ElectionView:
        """One election. With `after`, answers once its revision is greater, or after `wait_ms`."""
        path = f"/v1/elections/{election_name(name)}" + _query({"after": after, "wait_ms": wait_ms})
        return _decoded(self._call("GET", path, waits=(wait_ms or 0) / 1_000), ElectionView)

    def history(self, name: str, *, limit: int = 20) -> HistoryPage:
        """The last holdings of an election, newest first."""
        path = f"/v1/elections/{election_name(name)}/history" + _query({"limit": limit})
        return _decoded(self._call("GET", path), HistoryPage)

    def configure(self, name: str, config: ElectionConfig) -> Configured:
        """Set an election's settings as a whole."""
        path = f"/v1/elections/{election_name(name)}/config"
        return _decoded(self._change("PUT", path, msgspec.to_builtins(config)), Configured)

    def pause(self, name: str, *, paused: bool) -> Configured:
        """While paused nobody new is granted; the holder stays."""
        path = f"/v1/elections/{election_name(name)}/pause"
        return _decoded(self._change("POST", path, {"paused": paused}), Configured)

    def kv_put(
        self,
        key: str,
        value: object,
        *,
        election: str | None = None,
        term: int | None = None,
        if_revision: int | None = None,
    ) -> KvWritten:
        """Write a JSON value; with `election` and `term` only while that term is current (`StaleTerm`)."""
        body = {"value": value, "election": election, "term": term, "if_revision": if_revision}
        body = {name: each for name, each in body.items() if each is not None or name == "value"}
        return _decoded(self._change("PUT", _kv_path(key), body), KvWritten)

    def kv_get(self, key: str, *, stale: bool = False) -> Item:
        """Read a value; linearizable unless `stale`."""
        answer = self._call("GET", _kv_path(key) + ("?consistency=stale" if stale else ""))
        found = _decoded(answer, KvValueBody)
        value = msgspec.json.decode(found.value)
        return Item(found.key, value, found.revision, found.election, found.term, found.as_of)

    def kv_list(self, prefix: str = "", *, limit: int = 100) -> KvKeys:
        """Keys that begin with `prefix`, in order."""
        return _decoded(self._call("GET", "/v1/kv" + _query({"prefix": prefix, "limit": limit})), KvKeys)

    def call(self, type_: type[T], method: Method, path: str, body: object = None) -> T:
        """A call without a method of its own here, that may be repeated as it is."""
        return _decoded(self._call(method, path, body), type_)

    def snapshot(self, *, stale: bool = False) -> Iterator[bytes]:
        """The file of a snapshot as it comes (`wire.snapshot_file`); not tried again once it has begun."""
        self.status(stale=stale)  # finds who answers
        endpoint = self._endpoints[self._preferred]
        timeout = urllib3.Timeout(connect=connect_seconds_max, read=_stream_seconds_max)
        path = "/v1/snapshot" + ("?consistency=stale" if stale else "")
        headers = {**self._headers, header: self._known.said()}
        try:
            response = self._pool.request(
                "GET", endpoint + path, headers=headers, timeout=timeout, redirect=False, preload_content=False
            )
            if response.status != 200:
                refused = _refused(_Answer(response.status, response.read()))
                raise ProtocolError(f"{endpoint}: {response.status}") if refused is None else of_refused(refused)
            yield from response.stream(_stream_bytes)
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(f"{endpoint}: the snapshot broke off: {_words(error)}") from error

    # --- how a call is made ------------------------------------------------------------------------------------------

    def _change(self, method: Method, path: str, body: object, *, waits: float = 0.0) -> _Answer:
        """A call that changes something: once, whatever happens on the way."""
        while True:
            self._open()
            numbers = self._numbers
            ticket = numbers.draw()
            sent: list[str] = []
            try:
                return self._call(method, path, body, waits=waits, ticket=ticket, sent=sent)
            except OutcomeUnknown:
                numbers.forget(ticket.client)
                if len(sent) > 1:
                    raise  # an earlier copy may have been executed
                # Sent once, and refused as the cluster had forgotten our client session: it was not executed.
            finally:
                numbers.done(ticket)

    def _open(self) -> None:
        if os.getpid() != self._pid:
            self._fresh()  # a forked child must use neither the parent's connections nor its numbers
        nonce = self._numbers.nonce()
        if nonce is not None:
            self._numbers.opened(_decoded(self._call("POST", "/v1/clients", {"nonce": nonce}), ClientOpened).client)

    def _call(
        self,
        method: Method,
        path: str,
        body: object = None,
        *,
        waits: float = 0.0,
        accepts_503: bool = False,
        ticket: Ticket | None = None,
        sent: list[str] | None = None,
    ) -> _Answer:
        """One call, at one endpoint after the other, until one answers for good or the time is over."""
        if os.getpid() != self._pid:
            self._fresh()
        data = None if body is None else _encode(body)
        deadline = time.monotonic() + self._timeout + waits
        last: ClientError = Unreachable(f"no endpoint of {', '.join(self._endpoints)} answered")
        report: _Answer | None = None
        rounds = 0
        while True:
            start = self._preferred
            for turn in range(len(self._endpoints)):
                place = (start + turn) % len(self._endpoints)
                left = deadline - time.monotonic()
                if left <= 0:
                    raise _given_up(last)
                try:
                    answer = self._attempt(method, self._endpoints[place], path, data, ticket, sent, waits, left)
                except TimedOut:
                    if isinstance(last, NoQuorum):
                        raise last from None  # a member that answered tells more
                    raise
                except (Unreachable, LeftBehind) as error:
                    last = last if isinstance(last, NoQuorum) else error  # a member that answered tells more
                    continue
                self._preferred = place
                refused = None if answer.status < 400 else _refused(answer)
                if answer.status == 503 and accepts_503:
                    report = answer if refused is None else report
                if refused is None and answer.status < 400:
                    return answer
                if refused is not None and refused.code not in _elsewhere:
                    raise of_refused(refused)
                if refused is not None:
                    last = of_refused(refused)
            if report is not None:
                return report  # every endpoint was asked and none has a quorum: this is what one of them knows
            if isinstance(last, LeftBehind):
                raise last  # the others, if there are any, aren't there
            pause = _pause_seconds[min(rounds, len(_pause_seconds) - 1)]
            rounds += 1
            time.sleep(max(0.0, min(pause, deadline - time.monotonic())))

    def _attempt(
        self,
        method: Method,
        endpoint: str,
        path: str,
        data: bytes | None,
        ticket: Ticket | None,
        sent: list[str] | None,
        waits: float,
        left: float,
    ) -> _Answer:
        headers = {**self._headers, header: self._known.said()}
        if data is not None:
            headers["Content-Type"] = "application/json"
        if ticket is not None:
            headers |= self._numbers.headers(ticket)
        read = min(left, attempt_seconds_max + waits)
        timeout = urllib3.Timeout(connect=min(left, connect_seconds_max), read=read)
        if sent is not None:
            sent.append(endpoint)
        try:
            response = self._pool.request(
                method, endpoint + path, body=data, headers=headers, timeout=timeout, redirect=False
            )
        except urllib3.exceptions.NewConnectionError as error:
            if sent is not None:
                sent.pop()  # nothing of it left this machine
            raise Unreachable(f"{endpoint}: {_words(error)}") from error
        except urllib3.exceptions.ReadTimeoutError as error:
            reason = f"{endpoint}: {_words(error)}"
            if read < left:
                raise Unreachable(reason) from error
            raise TimedOut(reason, next_step=_too_short) from error
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(f"{endpoint}: {_words(error)}") from error
        why = self._known.hear(response.headers.get(header))
        if why is not None:
            raise LeftBehind(f"{endpoint}: {why}")
        return _Answer(response.status, response.data)

    def _learn(self, report: StatusReport) -> None:
        """Members that we weren't told of come last; the consensus leader, who needn't forward, is asked first."""
        for name, member in sorted(report.members.items(), key=lambda item: (item[1].role == "observer", item[0])):
            if member.api is None or member.role == "witness":
                continue  # observers may be far away, and witnesses serve nobody
            try:
                url = where.address(member.api).url
            except Invalid:
                continue  # a member that advertises nonsense is only not found by it
            if url not in self._endpoints:
                self._endpoints.append(url)
            if name == report.consensus.leader:
                self._preferred = self._endpoints.index(url)


def _given_up(last: ClientError) -> ClientError:
    return last if isinstance(last, Unreachable | NoQuorum) else TimedOut(last.reason, last.refused)


def _words(error: Exception) -> str:
    """What went wrong without urllib3's names of pools and connections."""
    match error:
        case urllib3.exceptions.NewConnectionError():
            text = str(error).rpartition(": ")[2]
        case urllib3.exceptions.SSLError():
            text = "it doesn't speak TLS as we do; http:// instead of https://?"
        case urllib3.exceptions.ProtocolError():
            broken = isinstance(error.args[-1], ConnectionError)
            text = "the connection was lost" if broken else "what answers there speaks no HTTP"
        case urllib3.exceptions.TimeoutError():
            text = "no answer in time"
        case _:
            text = str(error)
    return text or type(error).__name__


def _refused(answer: _Answer) -> Refused | None:
    """The refusal in an answer; None for a body that is no problem (a status report under 503)."""
    try:
        problem = msgspec.json.decode(answer.data, type=Problem)
    except msgspec.MsgspecError:
        if answer.status == 503:
            return None
        raise ProtocolError(f"an answer with status {answer.status} that isn't Tenure's") from None
    refused = refusal_of(problem)
    if refused is None and answer.status != 503:
        raise ProtocolError(f"{problem.title} ({answer.status}): {problem.detail}")
    return refused


def _decoded(answer: _Answer, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.data, type=type_)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"an answer that isn't Tenure's: {error}") from error


def _query(fields: Mapping[str, str | int | None]) -> str:
    given = {name: value for name, value in fields.items() if value is not None}
    return f"?{urlencode(given)}" if given else ""


def _kv_path(key: str) -> str:
    return "/v1/kv/" + quote(kv_key(key), safe="/")
