"""ReadIndex by rounds (thesis §6.4): every round has a heartbeat number that is never used again (etcd issue 20418).

A read joins only a round whose heartbeats are made after the read has come (P3.3), and only when the term's own no-op
is committed. A lost heartbeat costs time alone: the next one has a higher number and speaks for the round too.
"""

from tenure.base.ids import ConsensusTerm, LogIndex
from tenure.base.instants import Instant
from tenure.raft import quorum, replication
from tenure.raft.ready import ReadState, Refused
from tenure.raft.state import Core, Leader, Round


def as_of(core: Core, applied: LogIndex) -> Instant | None:
    """From when the state at `applied` is at the oldest, for reads that ask nobody (`freshness`). A leader's is from
    when a majority last answered it.
    """
    leader = core.role
    if isinstance(leader, Leader) and core.commit >= leader.noop and applied >= leader.noop:
        heard: list[int] = [core.now if one == core.me else leader.progress[one].heard_at for one in core.voters]
        core.freshness.at_least(Instant(quorum.held_by_quorum(heard)))
    return core.freshness.as_of(applied)


def ask(core: Core, token: int) -> None:
    """Take a read request; it waits for the next round."""
    leader = core.role
    if not isinstance(leader, Leader):
        core.refused.append(Refused(token, "not_leader", core.watch.leader))
    elif core.is_witness:
        core.refused.append(Refused(token, "transferring", core.me))  # P8: it holds nothing to read
    elif len(leader.reads_waiting) >= core.settings.reads_waiting_max:
        core.refused.append(Refused(token, "overloaded", core.me))
    else:
        leader.reads_waiting.append(token)


def open_round(core: Core, leader: Leader) -> None:
    """At the end of a step: one new round for all that wait, if not too many are under way."""
    if not leader.reads_waiting or core.commit < leader.noop:
        return
    if len(leader.rounds) >= core.settings.rounds_inflight_max:
        return
    tokens, leader.reads_waiting = leader.reads_waiting, []
    index = core.commit
    leader.rounds.append(Round(replication.beat(core, leader, opens_round=True), index, tokens))
    close_rounds(core, leader)


def close_rounds(core: Core, leader: Leader) -> None:
    """Rounds that a majority has answered, by this or any later heartbeat, are done."""
    if not leader.rounds:
        return
    acked = quorum.held_by_quorum(
        [leader.beat if voter == core.me else leader.progress[voter].beat_acked for voter in core.voters]
    )
    while leader.rounds and leader.rounds[0].number <= acked:
        done = leader.rounds.popleft()
        core.reads.extend(ReadState(token, done.index) for token in done.tokens)


def led_term(core: Core) -> ConsensusTerm | None:
    """The term that this member leads and serves in."""
    leader = core.role
    return core.term if isinstance(leader, Leader) and core.commit >= leader.noop else None
