"""`GET /v1/events`: all transitions as server-sent events, resumable by their number, or an explicit `compacted`.

Nothing is queued here: the next batch is asked for when the last one has gone out. A reader that doesn't read is
dropped; one that reads too slowly is told `compacted` by the engine's bounded ring and goes on behind the gap.
"""

import asyncio
import contextlib
from typing import Final

import msgspec

from tenure.api.answers import Reply, invalid, refused
from tenure.api.calls import Call
from tenure.api.hub import follow
from tenure.base.errors import Invalid
from tenure.base.ids import counter_max
from tenure.leadership.engine import Compacted, Transition

_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)
_encode: Final = msgspec.json.Encoder().encode
_burst: Final = 256
stuck_reader_s: Final = 30.0
"""A reader that takes nothing for this long is dropped."""


def _after(call: Call) -> int | None:
    last = call.headers.get(b"last-event-id")
    if last is None:
        return call.number("after", None)
    if not (last.isdigit() and len(last) <= 16 and int(last) <= counter_max):
        raise invalid(Invalid("Last-Event-ID", "must be the number of a transition"))
    return int(last)


def _event(transition: Transition) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (transition.number, transition.kind.encode(), _encode(transition))


def _texts(batch: tuple[Transition, ...] | Compacted) -> list[bytes]:
    if isinstance(batch, Compacted):
        # the id lets a reader that breaks off here resume behind the gap
        head = b"id: %d\n" % max(0, batch.next_number - 1)
        return [head + b'event: compacted\ndata: {"next_number":%d}\n\n' % batch.next_number]
    return [
        b"".join(_event(transition) for transition in batch[begin : begin + _burst])
        for begin in range(0, len(batch), _burst)
    ]


async def events(call: Call) -> Reply | None:
    """Server-sent events until the client, or the member, goes."""
    door = call.door
    after = _after(call)
    if door.watchers >= door.limits.watchers_max:
        return refused("too_many", "too many watchers")
    door.watchers += 1
    try:
        async with call.noticing():
            start = door.engine.last_transition() if after is None else after
            await call.start(200, _HEADERS)
            await call.more(b"retry: 1000\n\n")
            with contextlib.suppress(TimeoutError):
                await _pump(call, start)
    finally:
        door.watchers -= 1
    return None


async def _pump(call: Call, after: int) -> None:
    batches = follow(call.door.engine, after)
    coming = asyncio.ensure_future(anext(batches, None))
    gone = asyncio.ensure_future(call.gone.wait())
    try:
        while not call.gone.is_set():
            timeout_s = call.door.limits.sse_comment_ms / 1_000
            await asyncio.wait({coming, gone}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                await _send(call, b": still here\n\n")
                continue
            batch = coming.result()
            if batch is None:
                return
            for text in _texts(batch):
                await _send(call, text)
            coming = asyncio.ensure_future(anext(batches, None))
    finally:
        gone.cancel()
        coming.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await coming
        await batches.aclose()


async def _send(call: Call, text: bytes) -> None:
    if not call.gone.is_set():
        async with asyncio.timeout(stuck_reader_s):
            await call.more(text)
