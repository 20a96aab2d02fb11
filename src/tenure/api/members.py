"""Calls about the members of the coordination cluster, `/v1/members…`, and about its autopilot, `/v1/autopilot`."""

from starlette.responses import Response

from tenure.api.calls import Call
from tenure.base.ids import MemberId
from tenure.leadership.engine import (
    AddMember,
    AmendMember,
    AutopilotSettings,
    ConfigureAutopilot,
    DemoteMember,
    ListMembers,
    PromoteMember,
    ReadAutopilot,
    RemoveMember,
    ReplaceMember,
)
from tenure.wire import bodies


async def list_members(call: Call) -> Response:
    """Who belongs to the cluster."""
    return await call.ask_reply(ListMembers(call.is_stale))


async def add(call: Call) -> Response:
    """A new member, as an observer."""
    body = call.take(bodies.AddMemberBody)
    request = AddMember(
        MemberId(body.id), body.name, body.peer, body.priority, body.if_index, body.dry_run, body.standby, body.returns,
        body.speaks,
    )  # fmt: skip
    return await call.change_reply(request)


async def promote(call: Call) -> Response:
    """An observer votes from now on."""
    body = call.take(bodies.PromoteMemberBody)
    return await call.change_reply(PromoteMember(call.parts["member"], body.role, body.if_index, body.dry_run))


async def demote(call: Call) -> Response:
    """A voter goes on as an observer."""
    body = call.take(bodies.LeaveMemberBody)
    return await call.change_reply(DemoteMember(call.parts["member"], body.if_index, body.dry_run))


async def remove(call: Call) -> Response:
    """A member leaves for ever."""
    body = call.take(bodies.LeaveMemberBody)
    return await call.change_reply(RemoveMember(call.parts["member"], body.if_index, body.dry_run))


async def replace(call: Call) -> Response:
    """An observer takes the place of a member."""
    body = call.take(bodies.ReplaceMemberBody)
    request = ReplaceMember(call.parts["member"], body.by, body.role, body.if_index, body.dry_run)
    return await call.change_reply(request)


async def amend(call: Call) -> Response:
    """Another peer address or priority, or whether it is a standby."""
    body = call.take(bodies.AmendMemberBody)
    request = AmendMember(call.parts["member"], body.peer, body.priority, body.if_index, body.dry_run, body.standby)
    return await call.change_reply(request)


async def autopilot(call: Call) -> Response:
    """What it does and waits for, and what it has done."""
    return await call.ask_reply(ReadAutopilot(call.is_stale))


async def configure_autopilot(call: Call) -> Response:
    """Set all of its settings; what isn't given is set to its default."""
    return await call.change_reply(ConfigureAutopilot(call.take(AutopilotSettings)))
