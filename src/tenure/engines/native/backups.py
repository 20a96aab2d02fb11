"""The state as a whole, for a file: frozen here at an index at which it is as new as the request."""

import asyncio
from typing import TYPE_CHECKING, Final

from tenure.base.ids import ConsensusTerm
from tenure.engines.native.changes import seats_of
from tenure.engines.native.desk import NO_STATE
from tenure.leadership.backups import Backup
from tenure.leadership.engine import Refused, Status

if TYPE_CHECKING:
    from tenure.engines.native.driver import NativeEngine

catch_up_s: Final = 2.0
"""How long a member that is behind may take to apply what the leader had when it was asked."""


async def backup(engine: "NativeEngine", stale: bool) -> Backup | Refused:
    """Linearizable: a quorum confirms the leader after the request came, and what it had applied then is applied here
    before the state is frozen. Stale: as it is here.
    """
    replica, unserving = engine.replica, engine.unserving()
    if unserving is not None:
        return unserving
    if replica is None:
        return Refused("founding", "this member is not founded yet and has no state", retry_after_ms=500)
    if not stale:
        report = await engine.ask(Status())
        if isinstance(report, Refused):
            return report
        if not report.quorum:  # the report says then what is known here
            text = "no quorum confirms what is newest; ?consistency=stale saves the state as it is here"
            return Refused("no_quorum", text, retry_after_ms=500)
        try:
            async with asyncio.timeout(catch_up_s):
                await engine.applied(report.consensus.applied_index)
        except TimeoutError:
            behind = report.consensus.applied_index - replica.applied
            text = f"this member is {behind} entries behind; ask another one, or with ?consistency=stale"
            return Refused("no_quorum", text, retry_after_ms=500)
    if replica.witness:  # it became one meanwhile
        return NO_STATE
    term = replica.raft.term_at(replica.applied)
    return Backup(
        replica.lineage,
        replica.applied,
        term if term is not None else ConsensusTerm(0),
        replica.raft.feature,
        seats_of(replica.raft.configuration),
        replica.machine.freeze().sections(),
    )
