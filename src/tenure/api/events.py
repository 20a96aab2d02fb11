"""`GET /v1/events`: all transitions as server-sent events, resumable by their number, or an explicit `compacted`.

Next to nothing is queued here: the next batch is asked for when the last one has gone out. A reader that doesn't read
is dropped by the connection's sweep; one that reads too slowly is told `compacted` by the engine's bounded ring and
goes on behind the gap.

An event's id is the transition's number and the cluster's id. Numbers begin anew in a cluster that was wiped and
founded again: who resumes with an id of the old one is told `compacted`, and hears everything of the new one from its
beginning. By the number alone it would wait in silence until the new cluster had counted that far.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Final

import msgspec
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from tenure.api.answers import age, from_refusal, invalid, refused
from tenure.api.calls import Call
from tenure.api.door import Door
from tenure.api.hub import follow
from tenure.base.errors import Invalid
from tenure.base.ids import counter_max
from tenure.leadership.engine import AsOf, Compacted, Status, StatusReport, Transition
from tenure.wire.bodies import transition_body

_HEADERS: Final = {"content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no"}
_encode: Final = msgspec.json.Encoder().encode
_burst: Final = 256
_ID: Final = re.compile(rb"([0-9]{1,16})(-[0-9a-f]{16})?")


async def _report(door: Door) -> StatusReport | None:
    report = await door.engine.ask(Status(stale=True))
    return report if isinstance(report, StatusReport) else None


def _mark(report: StatusReport | None) -> bytes:
    """What stands behind the number in an id: which cluster it was counted in; nothing before there is one."""
    known = report is not None and report.cluster_id is not None
    return f"-{report.cluster_id}".encode() if known else b""  # type: ignore[union-attr] # `known` says so


def _as_of(report: StatusReport | None) -> AsOf | None:
    """How far behind this member tells what happens: an observer may be far away."""
    return None if report is None else AsOf(report.consensus.applied_index, report.consensus.lag_ms)


def _comment(as_of: AsOf | None) -> bytes:
    said = "".join(f", {name} {value}" for name, value in age(as_of).items())
    return f": still here{said}\n\n".encode()


def _after(call: Call, mark: bytes) -> tuple[int | None, bool]:
    """Where to go on, and whether the client comes from another cluster than ours."""
    last = call.headers.get(b"last-event-id")
    if last is None:
        return call.number("after", None), False
    found = _ID.fullmatch(last)
    if found is None or int(found[1]) > counter_max:
        raise invalid(Invalid("Last-Event-ID", "must be the id of an event, or the number of a transition"))
    if found[2] is not None and mark and found[2] != mark:
        return 0, True
    return int(found[1]), False


def _event(transition: Transition, mark: bytes) -> bytes:
    return b"id: %d%b\nevent: %s\ndata: %s\n\n" % (
        transition.number,
        mark,
        transition.kind.encode(),
        _encode(transition_body(transition)),
    )


def _texts(batch: tuple[Transition, ...] | Compacted, mark: bytes) -> list[bytes]:
    if isinstance(batch, Compacted):
        # the id lets a reader that breaks off here resume behind the gap
        head = b"id: %d%b\n" % (max(0, batch.next_number - 1), mark)
        return [head + b'event: compacted\ndata: {"next_number":%d}\n\n' % batch.next_number]
    return [
        b"".join(_event(transition, mark) for transition in batch[begin : begin + _burst])
        for begin in range(0, len(batch), _burst)
    ]


class _Events(StreamingResponse):
    """Ends its iterator with itself; starlette leaves that to the garbage collector."""

    body_iterator: AsyncIterator[bytes]

    async def stream_response(self, send: Send) -> None:
        async with contextlib.aclosing(self.body_iterator):  # type: ignore[type-var] # `_told` is a generator
            await super().stream_response(send)


async def events(call: Call) -> Response:
    """Server-sent events until the client, or the member, goes."""
    door = call.door
    report = await _report(door)
    mark = _mark(report)
    after, is_foreign = _after(call, mark)
    headers = {**_HEADERS, **age(_as_of(report))}
    if call.request.method == "HEAD":
        return Response(headers=headers)
    unserving = door.engine.unserving()
    if unserving is not None:
        return from_refusal(unserving)
    if door.watchers >= door.limits.watchers_max:
        return refused("too_many", "too many watchers")
    door.watchers += 1  # here: many could pass the check before the first of them is told something
    start = door.engine.last_transition() if after is None else after
    return _Events(_told(door, start, mark, is_foreign=is_foreign), headers=headers)


async def _told(door: Door, after: int, mark: bytes, *, is_foreign: bool) -> AsyncIterator[bytes]:
    """What is sent; comments keep proxies awake."""
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(1)
    reading = asyncio.get_running_loop().create_task(_read(door, after, mark, queue))
    leave = reading.cancel
    door.leaving.add(leave)
    try:
        yield b"retry: 1000\n\n"
        if is_foreign:
            yield _texts(Compacted(1), mark)[0]
        while True:
            try:
                async with asyncio.timeout(door.limits.sse_comment_ms / 1_000):
                    text = await queue.get()
            except TimeoutError:
                text = _comment(_as_of(await _report(door)))
            if text is None:
                return
            yield text
    finally:
        door.leaving.discard(leave)
        door.watchers -= 1
        reading.cancel()


async def _read(door: Door, after: int, mark: bytes, queue: asyncio.Queue[bytes | None]) -> None:
    """One batch ahead of the client. Ends with None: when the engine ends, or when the member goes."""
    try:
        if door.closing:
            return
        async with contextlib.aclosing(follow(door.engine, after)) as batches:
            async for batch in batches:
                for text in _texts(batch, mark):
                    await queue.put(text)
    finally:
        while not queue.empty():  # what is dropped is sent again to who resumes
            queue.get_nowait()
        queue.put_nowait(None)
