"""The stream (API.md): one WebSocket, many sessions, every keepalive with its own number and acknowledgement.

The protocol object stands directly on the transport. A keepalive is decoded, submitted and acknowledged without a task
or a future; whatever is said in one turn of the loop leaves in one write. Other requests take the same way; only
`attach` and `observe` belong to the stream itself. Of the WebSocket only the usual frame is read here (`frames`).
"""

import asyncio
import logging
from functools import partial
from typing import Final

import msgspec

from tenure.api import frames
from tenure.api.door import Door
from tenure.api.hub import follow
from tenure.api.messages import (
    Attach,
    Behind,
    Observe,
    SessionGone,
    decode_fields,
    decode_keep,
    decode_own,
    encode,
    keep_mark,
    keep_prefix,
    mark_of,
    noted,
    origin_in,
    push_of,
    request_in,
    session_form,
)
from tenure.base.errors import Invalid
from tenure.base.ids import SessionId, counter_max, session_id
from tenure.leadership.checks import check
from tenure.leadership.engine import (
    Answer,
    AnyRequest,
    AnyResult,
    Code,
    Compacted,
    Disconnected,
    Keepalive,
    Kept,
    KvPut,
    KvValue,
    OpenSession,
    Origin,
    ReadSession,
    Refused,
    SessionClosed,
    SessionOpened,
    SessionView,
    Transition,
    Validated,
)
from tenure.wire.bodies import counter_range, invalid_of, kv_value_body, transition_body

_log: Final = logging.getLogger("tenure.api")
_burst_bytes_max: Final = 64 * 1024


class Stream(asyncio.Protocol):
    """One connection after its handshake. `connections` is uvicorn's set, through which a shutdown finds us."""

    def __init__(self, door: Door, transport: asyncio.Transport, connections: set[object]) -> None:
        self._door = door
        self._engine = door.engine
        self._transport = transport
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._frames = frames.Frames(door.limits.stream_message_bytes_max)
        self._out: list[bytes] = []
        """Said in this turn of the loop, or held back while the transport is full."""
        self._out_bytes = 0
        self._is_flushing = False
        self._is_full = False
        self._room = asyncio.Event()
        self._room.set()
        self._gone = False
        self._asked_max = door.limits.stream_in_flight_max
        self._in_flight_max = door.limits.requests_in_flight_max
        self._asked = 0
        """Messages without an answer; never more than `_asked_max`."""
        self._sessions: set[SessionId] = set()
        self._observer: asyncio.Task[None] | None = None
        self._heard_at = self._loop.time()
        self._pinged = False
        door.streams += 1
        door.telemetry.streams = door.streams
        door.guests.add(self)
        connections.add(self)

    # --- the transport's side ------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Messages and control frames, in order."""
        self._heard_at = self._loop.time()
        self._pinged = False
        incoming = self._frames
        for message in incoming.feed(data):
            self._message(message)
            if self._gone:
                return
        if incoming.has_ended:
            self._finish(incoming.unsent)
        elif incoming.said:
            self._write(incoming.unsent)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone; its sessions live on until they expire, unless the steward decides otherwise (P3.8)."""
        self._gone = True
        self._out.clear()
        self._connections.discard(self)
        self._door.guests.discard(self)
        self._door.streams -= 1
        self._door.telemetry.streams = self._door.streams
        self._room.set()
        if self._observer is not None:
            self._observer.cancel()
        for session in sorted(self._sessions):
            if self._door.hub.detach(session, self) and not self._door.closing:
                self._lost(session)
        self._sessions.clear()

    def pause_writing(self) -> None:
        """The client reads slowly: keep what is said up to the limit, and listen to it no more meanwhile."""
        self._is_full = True
        self._room.clear()
        if not self._gone:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """There is room again."""
        self._is_full = False
        self._room.set()
        if not self._gone:
            self._transport.resume_reading()
            self.flush()

    def eof_received(self) -> None:
        """Half-closed is closed."""

    def shutdown(self) -> None:
        """The server goes (uvicorn)."""
        self._door.close()
        self._close(1001, "the member is shutting down")

    def sweep(self, now: float) -> None:
        """Ping a silent client; close one that doesn't answer."""
        silent = now - self._heard_at
        if silent > self._door.limits.idle_timeout_ms / 1_000:
            self._transport.abort()
        elif silent > self._door.limits.idle_timeout_ms / 3_000 and not self._pinged:
            self._pinged = True
            self._write(self._frames.ping())

    # --- saying --------------------------------------------------------------------------------------------------

    def _say(self, payload: bytes) -> None:
        """Queue a text message; everything of this turn leaves at once. Never raises, whoever calls."""
        if self._gone:
            return
        self._out += frames.text(payload)
        self._out_bytes += len(payload)
        if self._is_full:
            if self._out_bytes > self._door.limits.stream_buffer_bytes_max:
                self._close(1013, "too slow: unsent messages over the limit")
        elif self._out_bytes >= _burst_bytes_max:
            self.flush()  # a burst of one turn: else a client that takes nothing is found full only behind all of it
        elif not self._is_flushing:
            self._is_flushing = True
            self._door.flush_soon(self)

    def flush(self) -> None:
        """The door, once a turn: write what was said. Never raises."""
        self._is_flushing = False
        if self._out and not self._is_full:
            data = b"".join(self._out)
            self._out.clear()
            self._out_bytes = 0
            self._write(data)

    def _write(self, data: bytes) -> None:
        if self._gone or self._transport.is_closing():
            return
        try:
            self._transport.write(data)
        except (OSError, RuntimeError) as error:  # uvloop raises RuntimeError on a handle that is closed
            _log.debug("a stream's client has gone: %s", error)

    def _close(self, code: int, reason: str = "") -> None:
        """The last frame, then the end; a client that doesn't read doesn't get it."""
        if self._gone:
            return
        if self._is_full:
            self._gone = True
            self._transport.abort()
            return
        self._finish(self._frames.close(code, reason))

    def _finish(self, last: bytes) -> None:
        self.flush()
        self._write(last)
        self._gone = True
        self._transport.close()

    def _refuse(self, mark: bytes, code: Code, reason: str, field: str | None = None) -> None:
        self._tell(mark, encode(Refused(code, reason, field)))

    def _tell(self, mark: bytes, encoded: bytes) -> None:
        """An object with `"id":…,` (or what else marks it) put in front."""
        self._say(b"{" + mark + encoded[1:] if mark else encoded)

    # --- hearing -------------------------------------------------------------------------------------------------

    def _message(self, message: bytes) -> None:
        if not message.startswith(keep_prefix):
            self._other(message)
            return
        try:
            keep = decode_keep(message)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._other(message)  # which finds the words
            return
        if not (
            1 <= keep.number <= counter_max
            and 0 <= keep.health <= 100
            and (keep.lag is None or counter_range(keep.lag))
        ):
            numbered, healthy = 1 <= keep.number <= counter_max, 0 <= keep.health <= 100
            field = "number" if not numbered else "health" if not healthy else "lag"
            self._refuse(keep_mark(keep), "invalid", "number, health or lag out of range", field)
        elif not session_form.fullmatch(keep.session):
            self._refuse(keep_mark(keep), "invalid", "must look like <log index>-<16 hex digits>", "session")
        elif self._is_over():
            self._refuse(keep_mark(keep), "too_many", "too many unanswered requests")
        else:
            self._submit(keep, None, partial(self._kept, keep))

    def _kept(self, keep: Keepalive, result: AnyResult) -> None:
        self._asked -= 1
        self._door.in_flight -= 1
        if type(result) is Kept:
            self._say(encode(result))
        else:
            self._tell(keep_mark(keep), encode(result))

    def _other(self, message: bytes) -> None:
        """Anything but a keepalive of the usual form."""
        try:
            fields = decode_fields(message)
        except msgspec.ValidationError:
            self._refuse(b"", "invalid", "a message is a JSON object")
            return
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._close(1007, "a message must be a JSON object")
            return
        mark = b""
        try:
            mark = mark_of(fields)
            origin = origin_in(fields)
            kind = bytes(fields.get("type", b""))
            if kind in {b'"attach"', b'"observe"'}:
                self._own(mark, decode_own(encode(fields)))
                return
            request = request_in(kind, fields)
            if isinstance(request, Keepalive):
                mark = mark or keep_mark(request)
            refusal = check(request, origin)
        except msgspec.ValidationError as error:
            found = invalid_of(error)
            self._refuse(mark, "invalid", str(found), found.field)
        except Invalid as error:
            self._refuse(mark, "invalid", str(error), error.field)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._refuse(mark, "bad_request", f"not parseable: {error}")
        else:
            if refusal is None:
                self._ask(mark, request, origin)
            else:
                self._tell(mark, encode(refusal))

    def _answered(self, mark: bytes, request: AnyRequest, result: AnyResult) -> None:
        self._asked -= 1
        self._door.in_flight -= 1
        match result:
            case SessionOpened(session):
                self._attach(session)
            case SessionClosed(session):
                self._detach(session)
            case KvValue():
                self._tell(mark, encode(kv_value_body(result)))
                return
            case Refused(code="stale_term") if isinstance(request, KvPut):
                self._door.telemetry.fence_rejected("kv")
            case Validated(valid=False):
                self._door.telemetry.fence_rejected("validate")
            case _:
                pass
        self._tell(mark, encode(result))

    def _ask(self, mark: bytes, request: AnyRequest, origin: Origin | None) -> None:
        if self._is_over():
            self._refuse(mark, "too_many", "too many unanswered requests")
        elif isinstance(request, OpenSession) and self._has_no_place():
            self._refuse(mark, "too_many", "too many sessions on this stream")
        else:
            self._submit(request, origin, partial(self._answered, mark, request))

    def _is_over(self) -> bool:
        return self._asked >= self._asked_max or self._door.in_flight >= self._in_flight_max

    def _has_no_place(self) -> bool:
        return len(self._sessions) >= self._door.limits.stream_sessions_max

    def _submit(self, request: AnyRequest, origin: Origin | None, answer: Answer) -> None:
        self._asked += 1
        self._door.in_flight += 1
        try:
            self._engine.submit(request, origin, answer)
        except Exception:  # noqa: BLE001 - the log gets it; other streams and the engine don't
            _log.exception("the engine failed at a %s", type(request).__name__)
            self._close(1011, "an error inside the member")

    def _lost(self, session: SessionId) -> None:
        """P3.8: tell the steward; nobody waits for the answer."""
        try:
            self._engine.submit(Disconnected(session), None, _forget)
        except Exception:  # noqa: BLE001 - the log gets it; other streams and the engine don't
            _log.exception("the engine failed at a disconnection")

    # --- attach and observe --------------------------------------------------------------------------------------

    def _own(self, mark: bytes, message: Attach | Observe) -> None:
        match message:
            case Attach(session):
                request = ReadSession(session_id(session))
                if self._is_over():
                    self._refuse(mark, "too_many", "too many unanswered requests")
                elif self._has_no_place() and session not in self._sessions:
                    self._refuse(mark, "too_many", "too many sessions on this stream")
                else:
                    self._submit(request, None, partial(self._attachable, mark, request))
            case Observe(after):
                self._observe(mark, after)

    def _attachable(self, mark: bytes, request: ReadSession, result: AnyResult) -> None:
        if isinstance(result, SessionView):
            self._attach(result.session)
        self._answered(mark, request, result)

    def _attach(self, session: SessionId) -> None:
        if self._gone:  # it was opened for a client that left meanwhile
            self._lost(session)
        else:
            self._sessions.add(session)
            self._door.hub.attach(session, self)

    def _detach(self, session: SessionId) -> None:
        self._sessions.discard(session)
        self._door.hub.detach(session, self)

    def pushed(self, transition: Transition) -> None:
        """The hub: a transition that names an attached session."""
        push = push_of(transition)
        if push is None:
            return
        if isinstance(push, SessionGone) and transition.session is not None:
            self._detach(transition.session)
        self._say(encode(push))

    def missed(self, compacted: Compacted) -> None:
        """The hub: something may have been missed."""
        self._say(encode(Behind(compacted.next_number)))

    def _observe(self, mark: bytes, after: int | None) -> None:
        if self._observer is not None and not self._observer.done():
            self._refuse(mark, "invalid", "this stream observes already", "type")
        elif self._door.watchers >= self._door.limits.watchers_max:
            self._refuse(mark, "too_many", "too many watchers")
        else:
            self._tell(mark, noted)
            start = self._engine.last_transition() if after is None else after
            self._observer = self._loop.create_task(self._follow(start))

    async def _follow(self, after: int) -> None:
        """Batches as fast as the client reads; the engine compacts what it can't keep up with, nothing is kept here."""
        self._door.watchers += 1
        said = 0
        try:
            async for batch in follow(self._engine, after):
                if isinstance(batch, Compacted):
                    self._say(encode(Behind(batch.next_number)))
                    continue
                for transition in batch:
                    text = b'{"type":"transition",' + encode(transition_body(transition))[1:]
                    self._say(text)
                    said += len(text)
                    if said >= _burst_bytes_max:
                        said = 0
                        await asyncio.sleep(0)  # others' turn; and the flush tells whether there is room
                        await self._room.wait()
                    if self._gone:
                        return
        except Exception:  # noqa: BLE001 - the log gets it; other streams and the engine don't
            _log.exception("an observer failed")
            self._close(1011, "an error inside the member")
        finally:
            self._door.watchers -= 1


def _forget(result: AnyResult) -> None:
    """Nobody waits for this answer."""
