"""From typed results to responses. The one place where a refusal becomes a problem (RFC 9457)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from starlette.responses import Response

from tenure.base.errors import Invalid, TenureError
from tenure.leadership.engine import (
    AnyResult,
    AsOf,
    Code,
    ElectionView,
    Kept,
    KvValue,
    KvWritten,
    Refused,
    SessionOpened,
    StatusReport,
    Stepped,
)
from tenure.wire.bodies import (
    Problem,
    applied_header,
    key_header,
    kv_value_body,
    lag_header,
    problem_type,
    status_of,
)

_later: Final = {"retry-after": "1"}
_encode: Final = msgspec.json.Encoder().encode
_JSON: Final = "application/json"
_LINE: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_OK_JSON: Final = _LINE[200] + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
retry_after_ms_default: Final = 1_000


class Rejected(TenureError):
    """A request that ends before the engine was asked."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


def json_reply(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(_encode(value), status, headers, _JSON)


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    field: str | None = None,
    retry_after_ms: int | None = None,
    current_term: int | None = None,
    headers: Mapping[str, str] | None = None,
    closes: bool = False,
) -> Response:
    """A problem. 503 and 429 always say when to come again; `closes` ends the connection."""
    if status in {429, 503} and retry_after_ms is None:
        retry_after_ms = retry_after_ms_default
    shown = dict(headers or {})
    if retry_after_ms is not None:
        shown["retry-after"] = str(max(1, -(-retry_after_ms // 1_000)))
    if closes:
        shown["connection"] = "close"
    text = Problem(HTTPStatus(status).phrase, status, detail, code, field, retry_after_ms, current_term)
    return Response(_encode(text), status, shown, problem_type)


def refused(code: Code, reason: str, *, field: str | None = None, closes: bool = False) -> Response:
    """A refusal of the API's own, under one of the stable codes."""
    return problem(status_of[code], code, reason, field=field, closes=closes)


def invalid(error: Invalid) -> Rejected:
    """422 with the field at fault."""
    return Rejected(refused("invalid", str(error), field=error.field))


def age(as_of: AsOf | None) -> dict[str, str]:
    """The headers that tell how old a stale answer is; without the lag where the member can't know it."""
    if as_of is None:
        return {}
    shown = {applied_header.lower(): str(as_of.applied_index)}
    return shown if as_of.lag_ms is None else {**shown, lag_header.lower(): str(as_of.lag_ms)}


def from_refusal(refusal: Refused) -> Response:
    """What the engine refused."""
    challenge = {"www-authenticate": "Bearer"} if refusal.code == "unauthorized" else {}
    return problem(
        status_of[refusal.code],
        refusal.code,
        refusal.reason,
        field=key_header if refusal.code == "key_reused" else refusal.field,
        retry_after_ms=refusal.retry_after_ms,
        current_term=refusal.current_term,
        headers={**challenge, **age(refusal.as_of)},
    )


def from_result(result: AnyResult) -> Response:
    """Any result of the engine."""
    match result:
        case Refused():
            return from_refusal(result)
        case KvValue():
            return json_reply(kv_value_body(result), headers=age(result.as_of))
        case ElectionView():
            return json_reply(result, headers=age(result.as_of))
        case SessionOpened(session):
            return json_reply(result, 201, {"location": f"/v1/sessions/{session}"})
        case Stepped(state=state):
            return json_reply(result, 200 if state == "done" else 202)
        case StatusReport(quorum=quorum, consensus=consensus):
            headers = age(AsOf(consensus.applied_index, consensus.lag_ms))
            return json_reply(result, 200, headers) if quorum else json_reply(result, 503, {**headers, **_later})
        case _:
            return json_reply(result)


def internal() -> Response:
    """Our own mistake: the log has it, the client doesn't."""
    return problem(500, "internal", "an error inside the member, which its log describes", closes=True)


# --- answers that pass ASGI by --------------------------------------------------------------------------------------


def wire(response: Response) -> bytes:
    """HTTP/1.1 bytes of a response that was written in one piece."""
    headers = b"".join([b"%b: %b\r\n" % pair for pair in response.raw_headers])
    return b"%b%b\r\n%b" % (_LINE[response.status_code], headers, bytes(response.body))


def wire_of(result: AnyResult) -> bytes:
    """The same for a result; the three usual ones take the short way."""
    kind = type(result)
    if kind is KvWritten or kind is Kept:
        body = _encode(result)
    elif kind is KvValue and result.as_of is None:  # type: ignore[union-attr] # `kind` says so
        body = _encode(kv_value_body(result))  # type: ignore[arg-type] # `kind` says so
    else:
        return wire(from_result(result))
    return _OK_JSON % (len(body), body)
