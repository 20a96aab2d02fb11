"""Fenced metadata (API.md, kv): a key once written under an election refuses every write without its current term."""

from bisect import bisect_left
from typing import Final

from tenure.base.ids import ElectionName, Term
from tenure.leadership.commands import KvPut
from tenure.leadership.engine import KvKeys, KvWritten, Refused, Transition
from tenure.leadership.limits import kv_bytes_max, kv_keys_max, kv_value_bytes_max
from tenure.leadership.state import Indexes, KvEntry, State, Turn

leader_status_prefix: Final = "leader_status/"
"""Readable, never writable: the state machine itself answers here."""


def put(turn: Turn, body: KvPut) -> KvWritten | Refused:
    """Write a key, or say exactly why not."""
    state = turn.state
    key, election, term = body.key, body.election, body.term
    if key.startswith(leader_status_prefix):
        return Refused("reserved_key", f"{leader_status_prefix} is read-only", field="key")
    size = len(body.value)
    if size > kv_value_bytes_max:
        return Refused("too_large", f"a value has at most {kv_value_bytes_max} bytes, this has {size}", field="value")
    old = state.kv.get(key)
    fence = old.election if old is not None else None
    if fence is not None or election is not None:
        refused = _check_fence(state, fence, body)
        if refused is not None:
            return refused
    if body.if_revision is not None and body.if_revision != (old.revision if old is not None else 0):
        found = f"revision {old.revision}" if old is not None else "no such key"
        return Refused("revision_mismatch", f"expected revision {body.if_revision}, found {found}", field="if_revision")
    grown = size - len(old.value) if old is not None else size + len(key)
    if state.kv_bytes + grown > kv_bytes_max:
        return Refused("too_many", f"keys and values together have at most {kv_bytes_max} bytes")
    if old is None:
        if len(state.kv) >= kv_keys_max:
            return Refused("too_many", f"there are at most {kv_keys_max} keys")
        turn.indexes.keys.append(key)
    state.kv_bytes += grown
    index = turn.index
    state.kv[key] = KvEntry(body.value, index, election, term)
    turn.transitions.append(
        Transition(
            turn.next_number(),
            index,
            "kv",
            turn.at_ms,
            election=election,
            term=Term(term) if term is not None else None,
            key=key,
        )
    )
    return KvWritten(key, index, election, term)


def _check_fence(state: State, fence: ElectionName | None, body: KvPut) -> Refused | None:
    """The term must be the one under which the election is held now, by the state in which this is applied."""
    if body.election is None and body.term is not None:
        return Refused("invalid", "election and term come together", field="election")
    if body.election is not None:
        if body.election not in state.elections:
            return Refused("unknown_election", f"there is no election {body.election!r}", field="election")
        if body.term is None:
            return Refused("invalid", "election and term come together", field="term")
    name = fence if fence is not None else body.election
    assert name is not None
    election = state.elections[name]
    if body.election != name:
        said = "none" if body.election is None else repr(body.election)
        reason = f"this key belongs to election {name!r}, the write names {said}"
        return Refused("stale_term", reason, field="election", current_term=election.last_term)
    if election.holder is None:
        reason = f"nobody holds {name!r}; its last term was {election.last_term}"
        return Refused("stale_term", reason, field="term", current_term=election.last_term)
    if election.holder.term != body.term:
        reason = f"{name!r} is held under term {election.holder.term}, the write came under {body.term}"
        return Refused("stale_term", reason, field="term", current_term=election.holder.term)
    return None


def keys(state: State, indexes: Indexes, prefix: str, limit: int) -> KvKeys:
    """Keys with this prefix in order, `leader_status/…` among them."""
    indexes.keys.sort()  # nearly sorted already: only the newest stand at the end
    found = _with_prefix(indexes.keys, prefix, limit + 1)
    if leader_status_prefix.startswith(prefix) or prefix.startswith(leader_status_prefix):
        own = sorted(leader_status_prefix + name for name in state.elections)
        found = sorted(found + _with_prefix(own, prefix, limit + 1))
    return KvKeys(tuple(found[:limit]), more=len(found) > limit)


def _with_prefix(ordered: list[str], prefix: str, limit: int) -> list[str]:
    found: list[str] = []
    for place in range(bisect_left(ordered, prefix), len(ordered)):
        if len(found) == limit or not ordered[place].startswith(prefix):
            break
        found.append(ordered[place])
    return found
