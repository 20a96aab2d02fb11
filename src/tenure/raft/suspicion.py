"""Fast fail-over (P5): who has lost the leader, who was told, and whose turn it is to stand.

A note is never durable and never a vote. It stands for the pre-vote that its sender would grant; everything here may
be wrong without harm, because the real vote checks term, vote and log again.
"""

from tenure.base.ids import MemberId
from tenure.base.instants import Instant, after
from tenure.raft import quorum
from tenure.raft.messages import Evidence, Found, LeaderLost
from tenure.raft.roles import may_vote
from tenure.raft.state import Candidate, Core, Follower, Leader, Note, PreCandidate, Suspicion

_failures_max = 4
_doublings_max = 8


def suspect(core: Core, evidence: Evidence) -> None:
    """The leader (or, without one, our patience) is lost: tell all voters and find our turn (P5.1)."""
    watch = core.watch
    core.epoch += 1
    core.suspicion = Suspicion(
        since=core.now, evidence=evidence, turn_at=core.now, note_due=core.now, term=core.term, leader=watch.leader,
        leader_boot=watch.boot, heard_number=watch.number,
    )  # fmt: skip
    find_turn(core)
    core.trace("leader_lost", leader=watch.leader, term=core.term, evidence=evidence, rank=_ahead(core))
    send_notes(core)


def send_notes(core: Core) -> None:
    """Say it, and again each step while it lasts (P5.2)."""
    suspicion = core.suspicion
    assert suspicion is not None
    suspicion.note_due = after(core.now, core.timing.step)
    if suspicion.leader is None or suspicion.leader_boot is None or suspicion.term != core.term:
        return
    if not core.is_voter or not may_vote(core):
        return  # a note stands for a pre-vote, which would be refused (P1.3)
    note = LeaderLost(
        core.term, suspicion.leader, suspicion.leader_boot, core.identity.boot, core.epoch, suspicion.heard_number,
        core.log.last_index, core.log.last_term, suspicion.evidence,
    )  # fmt: skip
    for voter in core.voters:
        if voter not in (core.me, suspicion.leader):
            core.say(voter, note)


def resign(core: Core) -> None:
    """A leader that gives up says so itself (P5.5): called before it leaves its role."""
    leader = core.role
    assert isinstance(leader, Leader)
    core.epoch += 1
    note = LeaderLost(
        core.term, core.me, core.identity.boot, core.identity.boot, core.epoch, leader.beat, core.log.last_index,
        core.log.last_term, "resigned",
    )  # fmt: skip
    for voter in core.voters:
        if voter != core.me:
            core.say(voter, note)


def hear(core: Core) -> None:
    """Traffic of a leader of our term: every note is void, and those who were told are told again (P5.2)."""
    core.notes.clear()
    core.rounds_failed = 0
    suspicion = core.suspicion
    if suspicion is None:
        return
    core.suspicion = None
    core.epoch += 1
    leader = core.watch.leader
    if suspicion.leader is not None and leader is not None and suspicion.term == core.term:
        found = Found(core.term, leader, core.identity.boot, core.epoch)
        for voter in core.voters:
            if voter not in (core.me, leader):
                core.say(voter, found)
        core.trace("leader_found", leader=leader, term=core.term)


def on_note(core: Core, sender: MemberId, note: LeaderLost) -> None:
    """Weigh a note: kept only if it isn't void (P5.2)."""
    if note.term != core.term or sender not in core.voters:
        return
    if isinstance(core.role, Leader):
        if note.leader == core.me:
            core.role.beat_due = core.now  # we live: say so at once
        return
    if core.watch.leader is not None and core.watch.leader != note.leader:
        return
    link = core.links.get(sender)
    if link is None or link.boot != note.boot:
        return  # P5.2: its link is lost, or it is of an earlier life
    last = core.note_epochs.get(sender)
    if last is not None and last[0] == note.boot and (note.epoch, False) < (last[1], last[2]):
        return
    if core.watch.boot == note.leader_boot and note.heard_number < core.watch.number - 1:
        core.trace("note_void", sender=sender, heard=note.heard_number, own=core.watch.number)
        if core.suspicion is not None and _would_grant(core, note):
            core.suspicion.noticed.add(sender)  # no pre-vote, but an ordinary one is worth asking for now (P5.5)
            find_turn(core)
        return
    core.note_epochs[sender] = (note.boot, note.epoch, False)
    core.notes[sender] = Note(note, core.now)
    if sender == note.leader and core.watch.leader == sender and isinstance(core.role, Follower):
        if core.suspicion is None:
            suspect(core, "resigned")
        return
    if core.suspicion is not None:
        find_turn(core)


def on_found(core: Core, sender: MemberId, found: Found) -> None:
    """The sender hears the leader again: its notes are void."""
    last = core.note_epochs.get(sender)
    if last is not None and last[0] == found.boot and found.epoch < last[1]:
        return
    core.note_epochs[sender] = (found.boot, found.epoch, True)
    core.notes.pop(sender, None)
    if core.suspicion is not None:
        core.suspicion.noticed.discard(sender)


def believed(core: Core) -> set[MemberId]:
    """Whose notes stand for a pre-vote now: fresh, and of a log not fresher than ours (P5.1)."""
    _expire(core)
    return {sender for sender, note in core.notes.items() if _would_grant(core, note.message)}


def _would_grant(core: Core, note: LeaderLost) -> bool:
    log = core.log
    return (note.last_term, note.last_index) <= (log.last_term, log.last_index)


def _expire(core: Core) -> None:
    oldest = core.now - 2 * core.timing.step - core.timing.rtt_p99
    for sender in [sender for sender, note in core.notes.items() if note.at < oldest]:
        del core.notes[sender]


def _is_better(core: Core, voter: MemberId, order: tuple[MemberId, ...]) -> bool:
    """Whether `voter` should stand before us: by the log in its note if there is one, else by the leader's ranks."""
    note = core.notes.get(voter)
    if note is not None:
        theirs = (note.message.last_term, note.message.last_index)
        own = (core.log.last_term, core.log.last_index)
        if theirs != own:
            return theirs > own
    return order.index(voter) < order.index(core.me)


def _by_seat(core: Core, voter: MemberId) -> tuple[bool, int, MemberId]:
    """Witnesses last, then priority, then id, as a leader ranks those who are in step with it."""
    for seat in core.configuration.seats:
        if seat.id == voter:
            return seat.role == "witness", -seat.priority, voter
    raise AssertionError(f"{voter} is no voter")


def _order(core: Core) -> tuple[MemberId, ...]:
    """The leader's ranks, completed by priority and id for whom it did not name."""
    named = tuple(member for member in core.watch.ranks if member in core.voters)
    rest = (member for member in core.voters if member not in named)
    return named + tuple(sorted(rest, key=lambda member: _by_seat(core, member)))


def _rivals(core: Core) -> list[MemberId]:
    """Voters whose link is up, without the lost leader and ourselves (P5.6)."""
    lost = core.suspicion.leader if core.suspicion is not None else None
    return [voter for voter in core.voters if voter not in (core.me, lost) and voter in core.links]


def _ahead(core: Core, behind: MemberId | None = None) -> int:
    if not core.is_voter:
        return 0
    order = _order(core)
    return sum(_is_better(core, voter, order) for voter in _rivals(core) if voter != behind)


def find_turn(core: Core) -> None:
    """When we stand: one step for each live voter ranked better (P5.6), later after each failed round."""
    suspicion = core.suspicion
    assert suspicion is not None
    if suspicion.waited or not core.is_voter:
        return
    rivals = len(_rivals(core)) + 1
    failures = suspicion.failures
    if failures and quorum.reached(core.voters, believed(core) | suspicion.noticed | {core.me}):
        failures = 0  # the round failed because others had not noticed yet; now a majority has
    wait = (_ahead(core) + failures * rivals) * core.timing.step
    suspicion.turn_at = after(suspicion.since, wait)


def gives_way(core: Core) -> bool:
    """At our turn: a better-ranked voter has said that it stands too; wait two more steps, once (P5.6).

    Where the logs are equal and our seat comes before theirs, they may take us for better, by ranks that they have
    heard and we have not: both would wait, and stand at one moment. We wait for one step then (ADR 0035).
    """
    suspicion = core.suspicion
    assert suspicion is not None
    if suspicion.waited or not core.is_voter:
        return False
    _expire(core)
    order = _order(core)
    better = [voter for voter in _rivals(core) if voter in core.notes and _is_better(core, voter, order)]
    if not better:
        return False
    suspicion.waited = suspicion.gave_way = True
    mutual = not is_behind(core) and all(_by_seat(core, core.me) < _by_seat(core, voter) for voter in better)
    suspicion.turn_at = after(core.now, (1 if mutual else 2) * core.timing.step)
    return True


def is_behind(core: Core) -> bool:
    """Whether a voter that can stand has said that its log is fresher than ours."""
    return any(not _would_grant(core, core.notes[voter].message) for voter in _rivals(core) if voter in core.notes)


def lets_stand(core: Core) -> bool:
    """A voter with a fresher log stands, too: it has refused our pre-vote (`stand_soon`), or its note says so. As at
    our turn, wait two steps, once (P5.6, ADR 0035). Else both get some of the votes, and nobody enough.
    """
    suspicion = core.suspicion
    if suspicion is None or suspicion.gave_way:
        return False
    suspicion.waited = True
    suspicion.gave_way = True
    suspicion.turn_at = after(core.now, 2 * core.timing.step)
    return True


def failed(core: Core) -> None:
    """A round of ours ended without a majority: stand again later, spread out by rank and a little chance."""
    suspicion = core.suspicion
    if suspicion is None:
        suspicion = core.suspicion = Suspicion(
            since=core.now, evidence="timeout", turn_at=core.now, note_due=core.now, term=core.term, leader=None,
            leader_boot=None, heard_number=0,
        )  # fmt: skip
    suspicion.since = core.now
    suspicion.failures = min(suspicion.failures + 1, _failures_max)
    suspicion.waited = False
    suspicion.noticed.clear()  # only what is heard from now on is worth another round
    find_turn(core)
    suspicion.turn_at = after(suspicion.turn_at, core.rng.below(core.timing.step))


def round_us(core: Core) -> int:
    """How long a round lasts, and half of how long a voter waits for one. P5.6 knows our own disk only; with voters
    whose disks are slower than ours every round would end before their answers come. So each that runs out doubles
    it, up to what counts as a stall, until a leader is heard: also when others' candidacies came in between, or two
    who are quick would interrupt each other for ever.
    """
    once = core.timing.vote_timeout
    return max(once, min(once << core.rounds_failed, core.settings.disk_stall_min_us))


def unanswered(core: Core) -> None:
    """A round of ours ran out of time without enough answers: the next lasts longer."""
    core.rounds_failed = min(core.rounds_failed + 1, _doublings_max)


def relinked(core: Core) -> None:
    """Somebody who may answer is there: what failed for want of links says nothing any more."""
    suspicion = core.suspicion
    core.rounds_failed = 0
    if suspicion is None:
        return
    suspicion.failures = min(suspicion.failures, 1)
    if isinstance(core.role, PreCandidate | Candidate):
        core.role.ends_at = min(core.role.ends_at, after(core.now, core.timing.vote_timeout))
    find_turn(core)


def stand_soon(core: Core, behind: MemberId) -> None:
    """Our log is fresher than that of `behind`, who asked: our turn is due, by rank. It asks all at once, so if all
    stood at once their votes would split, and again with each of its requests: nobody would ever be elected.
    """
    if core.suspicion is not None and isinstance(core.role, Follower | PreCandidate):
        turn_at = after(core.now, _ahead(core, behind) * core.timing.step)
        core.suspicion.turn_at = min(core.suspicion.turn_at, turn_at)
        core.suspicion.waited = True


def timeout_at(core: Core) -> Instant:
    """When a follower loses patience with its leader, or with having none (P6.2, P6.3).

    T counts from the last heartbeat: the next one was due an interval after that, whatever came in between. Other
    traffic is a sign of life as well, and is given what a late heartbeat is given: T without the interval (ADR 0014).
    """
    watch = core.watch
    if watch.leader is None:
        due = watch.heard_at + watch.patience_us
    elif watch.beat_at is None:
        due = watch.heard_at + watch.timeout_us
    else:
        due = max(watch.beat_at, watch.heard_at - watch.interval_us) + watch.timeout_us
    return Instant(due) if due > core.grace_until else core.grace_until
