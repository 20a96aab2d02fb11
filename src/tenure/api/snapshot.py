"""`GET /v1/snapshot`: the state as a file (`wire.snapshot_file`), made while it is sent.

The state is frozen at once and encoded a section at a time, each when the client has taken the one before, with a pause
between: so neither memory nor the loop's other work notices much, however large it is and however slow the client.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tenure.api.answers import from_refusal, refused
from tenure.api.calls import Call
from tenure.api.door import Door
from tenure.base.instants import rfc3339
from tenure.leadership.backups import Backup
from tenure.leadership.engine import Refused
from tenure.wire.snapshot_file import Header, media_type, written

pause_s: Final = 0.002
"""After each section of about 64 KiB: 32 MB a second at the most."""


async def snapshot(call: Call) -> Response:
    """Everything that was acknowledged before the call, or with `?consistency=stale` what this member has."""
    door, stale = call.door, call.is_stale
    headers = {
        "content-disposition": 'attachment; filename="tenure.snapshot"',
        "cache-control": "no-store",
        "tenure-consistency": "stale" if stale else "linearizable",
    }
    if call.request.method == "HEAD":
        return Response(headers=headers, media_type=media_type)
    if door.snapshots >= door.limits.snapshots_max:
        return refused("too_many", f"{door.snapshots} snapshots are being sent already")
    door.snapshots += 1
    try:
        backup = await door.engine.backup(stale)
        if isinstance(backup, Refused):
            door.snapshots -= 1
            return from_refusal(backup)
    except BaseException:
        door.snapshots -= 1
        raise
    return _Snapshot(_sent(door, backup, stale=stale), headers=headers, media_type=media_type, door=door)


class _Snapshot(StreamingResponse):
    """Counts as one that is being sent until it is over, however that comes."""

    def __init__(self, content: AsyncIterator[bytes], *, door: Door, headers: dict[str, str], media_type: str) -> None:
        super().__init__(content, headers=headers, media_type=media_type)
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._door.snapshots -= 1


async def _sent(door: Door, backup: Backup, *, stale: bool) -> AsyncIterator[bytes]:
    header = Header(
        lineage=backup.lineage,
        index=backup.index,
        term=backup.term,
        feature=backup.feature,
        members=backup.members,
        taken_by=door.info.member,
        taken_at=rfc3339(door.info.wall_ms()),
        consistency="stale" if stale else "linearizable",
    )
    for part in written(header, backup.sections):
        yield part
        await asyncio.sleep(pause_s)
