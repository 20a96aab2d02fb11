"""From typed results to HTTP: status, headers, bytes. The one place where a refusal becomes a problem (RFC 9457)."""

from http import HTTPStatus
from typing import Final, NamedTuple

import msgspec

from tenure.base.errors import Invalid, TenureError
from tenure.leadership.engine import (
    AnyResult,
    Code,
    KvValue,
    KvWritten,
    Refused,
    SessionOpened,
    StatusReport,
    Stepped,
)
from tenure.wire.bodies import Problem, kv_value_body, problem_type, status_of

Headers = tuple[tuple[bytes, bytes], ...]

_encode: Final = msgspec.json.Encoder().encode
_JSON: Final = (b"content-type", b"application/json")
_PROBLEM: Final = (b"content-type", problem_type.encode())
_CLOSE: Final = (b"connection", b"close")
_LINE: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_OK_JSON: Final = _LINE[200] + b"content-type: application/json\r\ncontent-length: "
retry_after_ms_default: Final = 1_000


class Reply(NamedTuple):
    """One answer. `headers` are without content-length, which the body tells."""

    status: int
    headers: Headers
    body: bytes

    @property
    def closes(self) -> bool:
        """The connection ends with this answer."""
        return _CLOSE in self.headers

    def wire(self) -> bytes:
        """HTTP/1.1 bytes, for answers that pass uvicorn by."""
        if self.status == 200 and len(self.headers) == 1:
            return b"%s%d\r\n\r\n%s" % (_OK_JSON, len(self.body), self.body)
        lines = [_LINE[self.status]]
        for name, value in self.headers:
            lines += (name, b": ", value, b"\r\n")
        if self.status != 204:
            lines.append(b"content-length: %d\r\n" % len(self.body))
        lines += (b"\r\n", self.body)
        return b"".join(lines)


class Rejected(TenureError):
    """A request that ends before the engine was asked."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def json_reply(value: object, status: int = 200, headers: Headers = ()) -> Reply:
    """A JSON answer."""
    return Reply(status, (_JSON, *headers), _encode(value))


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    field: str | None = None,
    retry_after_ms: int | None = None,
    current_term: int | None = None,
    headers: Headers = (),
    closes: bool = False,
) -> Reply:
    """A problem. 503 and 429 always say when to come again."""
    if status in {429, 503} and retry_after_ms is None:
        retry_after_ms = retry_after_ms_default
    if retry_after_ms is not None:
        seconds = max(1, -(-retry_after_ms // 1_000))
        headers = (*headers, (b"retry-after", str(seconds).encode()))
    if closes:
        headers = (*headers, _CLOSE)
    text = Problem(HTTPStatus(status).phrase, status, detail, code, field, retry_after_ms, current_term)
    return Reply(status, (_PROBLEM, *headers), _encode(text))


def refused(code: Code, reason: str, *, field: str | None = None, closes: bool = False) -> Reply:
    """A refusal of the API's own, under one of the stable codes."""
    return problem(status_of[code], code, reason, field=field, closes=closes)


def invalid(error: Invalid) -> Rejected:
    """422 with the field at fault."""
    return Rejected(refused("invalid", str(error), field=error.field))


def from_refusal(refusal: Refused) -> Reply:
    """What the engine refused."""
    return problem(
        status_of[refusal.code],
        refusal.code,
        refusal.reason,
        field=refusal.field,
        retry_after_ms=refusal.retry_after_ms,
        current_term=refusal.current_term,
        headers=((b"www-authenticate", b"Bearer"),) if refusal.code == "unauthorized" else (),
    )


def from_result(result: AnyResult) -> Reply:
    """Any result of the engine."""
    kind = type(result)
    if kind is KvWritten:
        return Reply(200, (_JSON,), _encode(result))
    match result:
        case Refused():
            return from_refusal(result)
        case KvValue():
            return Reply(200, (_JSON,), _encode(kv_value_body(result)))
        case SessionOpened(session):
            return json_reply(result, 201, ((b"location", f"/v1/sessions/{session}".encode()),))
        case Stepped(state=state):
            return json_reply(result, 200 if state == "done" else 202)
        case StatusReport(quorum=False):
            return json_reply(result, 503, ((b"retry-after", b"1"),))
        case _:
            return json_reply(result)


def internal() -> Reply:
    """Our own mistake: the log has it, the client doesn't."""
    return problem(500, "internal", "an error inside the member, which its log describes", closes=True)
