"""Taking a request in: bodies, headers, origins, credentials. All of it happens before the engine is asked."""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final, TypeVar
from urllib.parse import unquote_to_bytes, urlsplit

import msgspec

from tenure.api.answers import Rejected, from_refusal, invalid, problem, refused
from tenure.base.errors import Invalid
from tenure.base.ids import SessionId, counter_max
from tenure.leadership import limits
from tenure.leadership.checks import check
from tenure.leadership.engine import AnyRequest, Keepalive, Keyed, KvPut, Origin, Sequenced
from tenure.wire import bodies
from tenure.wire.bodies import KeepaliveBody, KvPutBody, check_put, invalid_of

T = TypeVar("T")

key_header_bytes_max: Final = limits.key_chars_max
client_header_bytes_max: Final = 128
anonymous: Final = "anonymous"
_KEY: Final = bodies.key_header.lower().encode()
_CLIENT: Final = bodies.client_header.lower().encode()
_SEQUENCE: Final = bodies.sequence_header.lower().encode()
_ANSWERED: Final = bodies.answered_header.lower().encode()
_put_decoder: Final = msgspec.json.Decoder(KvPutBody)
_keep_decoder: Final = msgspec.json.Decoder(KeepaliveBody)


def take(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    """Decode a body: 400 when it is no JSON, 422 with the field when it is the wrong JSON."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid(invalid_of(error)) from None
    except RecursionError:
        raise Rejected(refused("bad_request", "the JSON is nested too deeply")) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        detail = "a JSON body is missing" if not body else f"not parseable: {error}"
        raise Rejected(refused("bad_request", detail)) from None


def checked(request: AnyRequest, origin: Origin | None = None) -> None:
    """Names, ranges and sizes, or 422 with the field."""
    refusal = check(request, origin)
    if refusal is not None:
        raise Rejected(from_refusal(refusal))


def take_put(key: str, body: bytes) -> KvPut:
    """`PUT /v1/kv/{key}`, the value as the bytes that came. The key was, or will be, checked by the caller."""
    taken = take(_put_decoder, body)
    value = bytes(taken.value)
    if not value.isascii():
        try:  # msgspec skips over raw values without a look at their UTF-8
            value.decode()
        except UnicodeDecodeError:
            raise Rejected(refused("bad_request", "the value isn't UTF-8", field="value")) from None
    if len(value) > limits.kv_value_bytes_max:
        detail = f"the value has {len(value)} bytes, at most {limits.kv_value_bytes_max} are taken"
        raise Rejected(refused("too_large", detail, field="value"))
    request = KvPut(key, value, taken.election, taken.term, taken.if_revision)  # type: ignore[arg-type] # checked below
    try:
        check_put(request)
    except Invalid as error:
        raise invalid(error) from None
    return request


def take_keepalive(session: SessionId, body: bytes) -> Keepalive:
    """`POST /v1/sessions/{id}/keepalive`; the session's form was the path's matter."""
    taken = take(_keep_decoder, body)
    return Keepalive(session, taken.number, taken.health, taken.lag)


def decoded(text: str | bytes, field: str) -> str:
    """Percent-decode one part of a path or query, strictly."""
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise Rejected(refused("bad_request", f"{field} isn't UTF-8 after percent-decoding", field=field)) from None


def _header_number(headers: Mapping[bytes, bytes], name: bytes, shown: str) -> int:
    value = headers.get(name, b"")
    if not (value.isdigit() and len(value) <= 16 and int(value) <= counter_max):
        raise Rejected(refused("invalid", "must be an integer from 0 to 2^53 - 1", field=shown))
    return int(value)


def _header_text(headers: Mapping[bytes, bytes], name: bytes, shown: str, limit: int) -> str:
    value = headers[name]
    if not 1 <= len(value) <= limit or not value.isascii():
        raise Rejected(refused("invalid", f"must have 1 to {limit} ASCII characters", field=shown))
    return value.decode()


def origin_of(headers: Mapping[bytes, bytes], principal: str, method: str, path: bytes, body: bytes) -> Origin | None:
    """P9: what makes this request safe to repeat; none if the client doesn't say."""
    keyed, sequenced = _KEY in headers, _CLIENT in headers
    if not (keyed or sequenced):
        if _SEQUENCE in headers or _ANSWERED in headers:
            raise Rejected(refused("invalid", "stands with the other two Tenure- headers", field=bodies.client_header))
        return None
    if keyed and sequenced:
        raise Rejected(refused("invalid", f"excludes {bodies.client_header}", field=bodies.key_header))
    if keyed:
        key = _header_text(headers, _KEY, bodies.key_header, key_header_bytes_max)
        digest = hashlib.sha256(b"%s\n%s\n%s" % (method.encode(), path, body)).hexdigest()[:32]
        return Keyed(principal, key, digest)
    client = _header_text(headers, _CLIENT, bodies.client_header, client_header_bytes_max)
    sequence = _header_number(headers, _SEQUENCE, bodies.sequence_header)
    answered = _header_number(headers, _ANSWERED, bodies.answered_header)
    if answered > sequence:
        raise Rejected(refused("invalid", "lies above the sequence", field=bodies.answered_header))
    return Sequenced(client, sequence, answered)


class Access:
    """Who may ask. Without a secret anybody who reaches the port; with one, who sends it as a bearer credential."""

    __slots__ = ("_digest",)

    def __init__(self, secret: bytes | None) -> None:
        self._digest = None if secret is None else hashlib.sha256(secret).digest()

    def principal(self, headers: Mapping[bytes, bytes]) -> str:
        """To whom an idempotency key is bound; or 401, 403."""
        self._refuse_foreign_page(headers)
        if self._digest is None:
            return anonymous
        credential = headers.get(b"authorization")
        if credential is None:
            challenge = {"www-authenticate": "Bearer"}
            raise Rejected(
                problem(401, "unauthorized", "send Authorization: Bearer <cluster secret>", headers=challenge)
            )
        scheme, _, given = credential.partition(b" ")
        # digests, so that neither content nor length shows in the time it takes
        same = hmac.compare_digest(hashlib.sha256(given.strip()).digest(), self._digest)
        if scheme.lower() != b"bearer" or not same:
            raise Rejected(refused("denied", "the credential is not this cluster's"))
        return "cluster"

    @staticmethod
    def _refuse_foreign_page(headers: Mapping[bytes, bytes]) -> None:
        """A browser says which page asks; a page from elsewhere has no business at a member on loopback."""
        origin = headers.get(b"origin")
        if origin is None:
            return
        if urlsplit(origin).netloc.lower() != headers.get(b"host", b"").lower():
            raise Rejected(refused("denied", "asked by a page of another origin", field="Origin"))
