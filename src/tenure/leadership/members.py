"""Requests about who belongs to the coordination cluster (P7), as the API and the CLI ask them.

Each says how it shall be, not what to do: told again, also to another leader and halfway through, it goes on where it
stands, and is answered when it is so. The engine's own rules decide what a safe step is.
"""

from typing import Literal

from msgspec import Struct

from tenure.base.ids import MemberId, Nonce
from tenure.leadership.requests import Request

Role = Literal["voter", "witness", "observer"]
VotingRole = Literal["voter", "witness"]
Standby = Literal["no", "voter", "witness"]
"""As what the autopilot may promote an observer."""


class MemberSeat(Struct, frozen=True):
    """One member of the configuration. `peer` is where the others reach it, `priority` who should lead first, `standby`
    as what the autopilot may promote it.
    """

    id: MemberId
    name: str
    peer: str
    role: Role
    priority: int = 0
    standby: Standby = "no"


class FormerMember(Struct, frozen=True):
    """One that was removed, and what it was."""

    id: MemberId
    name: str
    role: Role


class Founding(Struct, frozen=True):
    """What every member's state begins with: the first lineage nonce, the first stamp of terms, the first members."""

    lineage: Nonce
    stamp: int
    seats: tuple[MemberSeat, ...]


class MembersView(Struct, frozen=True, tag="members", omit_defaults=True):
    """The members in force since log index `index`. `plan`: the steps that a dry run would take, in words. `already`:
    what was asked for was so, and nothing was done. `removed`: the last that left, the newest last.
    """

    cluster_id: str
    lineage: tuple[Nonce, ...]
    index: int
    members: tuple[MemberSeat, ...]
    founding: Founding | None = None
    plan: tuple[str, ...] = ()
    already: bool = False
    removed: tuple[FormerMember, ...] = ()


class ListMembers(Request[MembersView], frozen=True, tag="list_members"):
    """Who belongs to the cluster; linearizable unless `stale`."""

    stale: bool = False


class ChangeRequest(Request[MembersView], frozen=True):
    """Base of all changes. `if_index`: refuse with `stale_configuration` unless the members are those of that index.
    `dry_run`: only say what would be done.
    """


class AddMember(ChangeRequest, frozen=True, tag="add_member"):
    """A new member, as an observer. Its id was drawn when its data directory was made (P1.1). `returns`: it comes back
    at the name and address of a member whose disk is lost. `speaks`: the newest feature version that it knows (P10).
    """

    id: MemberId
    name: str
    peer: str
    priority: int = 0
    if_index: int | None = None
    dry_run: bool = False
    standby: Standby = "no"
    returns: bool = False
    speaks: int = 1


class PromoteMember(ChangeRequest, frozen=True, tag="promote_member"):
    """An observer that has caught up votes from now on. `member` is a name or an id, here and below."""

    member: str
    role: VotingRole = "voter"
    if_index: int | None = None
    dry_run: bool = False


class DemoteMember(ChangeRequest, frozen=True, tag="demote_member"):
    """A voter goes on as an observer; the leader hands over first."""

    member: str
    if_index: int | None = None
    dry_run: bool = False


class RemoveMember(ChangeRequest, frozen=True, tag="remove_member"):
    """A member leaves for ever; the leader hands over first (P7.3)."""

    member: str
    if_index: int | None = None
    dry_run: bool = False


class ReplaceMember(ChangeRequest, frozen=True, tag="replace_member"):
    """`by`, an observer that has caught up, takes the place of `member`: two changes, safe after each (P7.2)."""

    member: str
    by: str
    role: VotingRole = "voter"
    if_index: int | None = None
    dry_run: bool = False


class AmendMember(ChangeRequest, frozen=True, tag="amend_member"):
    """Another peer address or priority of a member, or whether it is a standby; null leaves it."""

    member: str
    peer: str | None = None
    priority: int | None = None
    if_index: int | None = None
    dry_run: bool = False
    standby: Standby | None = None


AnyChange = AddMember | PromoteMember | DemoteMember | RemoveMember | ReplaceMember | AmendMember
