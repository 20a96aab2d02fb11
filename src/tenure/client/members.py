"""Who belongs to the coordination cluster, asked and changed over HTTP.

A change says how it shall be, so it may be sent again as it is, to any member, until it is answered (P7).
"""

from typing import Any, Final
from urllib.parse import quote

import msgspec

from tenure.client.http import Client, Method
from tenure.leadership.engine import (
    AddMember,
    AmendMember,
    AnyChange,
    DemoteMember,
    MembersView,
    PromoteMember,
    RemoveMember,
    ReplaceMember,
)


def list_members(client: Client, *, stale: bool = False) -> MembersView:
    """The members in force; linearizable unless `stale`."""
    return client.call(MembersView, "GET", "/v1/members" + ("?consistency=stale" if stale else ""))


def change(client: Client, request: AnyChange) -> MembersView:
    """Make it so; with `dry_run` only the plan. `Conflict` and `UnsafeChange` say why it can't be."""
    return client.call(MembersView, *_call(request))


def _call(request: AnyChange) -> tuple[Method, str, dict[str, Any]]:
    # What is left to its default isn't sent: a cluster of an older version may not know the field.
    default = {field.name: field.default for field in msgspec.structs.fields(request)}
    body = {name: value for name, value in msgspec.structs.asdict(request).items() if value != default[name]}
    match request:
        case AddMember():
            return "POST", "/v1/members", body
        case PromoteMember():
            return "POST", _path(body, "/promote"), body
        case DemoteMember():
            return "POST", _path(body, "/demote"), body
        case RemoveMember():
            return "POST", _path(body, "/remove"), body
        case ReplaceMember():
            return "POST", _path(body, "/replace"), body
        case AmendMember():
            return "PATCH", _path(body, ""), body


def _path(body: dict[str, Any], verb: str) -> str:
    """The path names the member, so the body doesn't."""
    return _MEMBERS + quote(body.pop("member"), safe="") + verb


_MEMBERS: Final = "/v1/members/"
