"""Names and numbers that travel, each with its own type, and the checks of those that people choose."""

import re
from typing import Final, NewType

from tenure.base.errors import Invalid

MemberId = NewType("MemberId", str)
"""16 hex digits, drawn when a data directory is made (P1.1)."""
Boot = NewType("Boot", str)
"""Random nonce of one life of a member's process."""
NodeId = NewType("NodeId", str)
ElectionName = NewType("ElectionName", str)
SessionId = NewType("SessionId", str)
"""`<log index>-<nonce>` (P3.6)."""
ConsensusTerm = NewType("ConsensusTerm", int)
"""Raft's term. Never to be confused with `Term`."""
Term = NewType("Term", int)
"""Number of one holding of an election: the fencing token (P2)."""
LogIndex = NewType("LogIndex", int)
BatchNumber = NewType("BatchNumber", int)
"""Number of a durable write of one member, rising by one (P1.3)."""
Nonce = NewType("Nonce", str)
"""16 hex digits; lineages are lists of them (P1.1)."""

counter_max: Final = 2**53 - 1
kv_key_bytes_max: Final = 512
_ELECTION = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_HEX16 = re.compile(r"[0-9a-f]{16}")
_SESSION = re.compile(r"[0-9]{1,16}-[0-9a-f]{16}")


def election_name(value: str, field: str = "election") -> ElectionName:
    """Check an election's name; `Invalid` names the field and the pattern."""
    if not _ELECTION.fullmatch(value):
        raise Invalid(field, f"must match {_ELECTION.pattern}, got {value[:80]!r}")
    return ElectionName(value)


def node_id(value: str, field: str = "node") -> NodeId:
    """Check a node's id; `Invalid` names the field and the pattern."""
    if not _NODE.fullmatch(value):
        raise Invalid(field, f"must match {_NODE.pattern}, got {value[:80]!r}")
    return NodeId(value)


def session_id(value: str, field: str = "session") -> SessionId:
    """Check the form of a session's id, not that the session exists."""
    if not _SESSION.fullmatch(value):
        raise Invalid(field, f"must look like <log index>-<16 hex digits>, got {value[:80]!r}")
    return SessionId(value)


def member_id(value: str, field: str = "member") -> MemberId:
    """Check the form of a member's id."""
    if not _HEX16.fullmatch(value):
        raise Invalid(field, f"must be 16 hex digits, got {value[:80]!r}")
    return MemberId(value)


def kv_key(value: str, field: str = "key") -> str:
    """Check a metadata key: 1 to `kv_key_bytes_max` bytes of UTF-8, no control characters."""
    if not value or len(value.encode()) > kv_key_bytes_max:
        raise Invalid(field, f"must have 1 to {kv_key_bytes_max} bytes, got {len(value.encode())}")
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
        raise Invalid(field, "must hold no control characters")
    return value


def counter(value: int, field: str, minimum: int = 0, maximum: int = counter_max) -> int:
    """Check that an integer lies in its range."""
    if not minimum <= value <= maximum:
        raise Invalid(field, f"must lie between {minimum} and {maximum}, got {value}")
    return value
