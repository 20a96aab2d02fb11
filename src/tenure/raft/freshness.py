"""How old is the state that this member would answer from, without asking anybody?

A follower knows when it answered which heartbeat. A later heartbeat says up to which number its leader had those
answers (`echoes`), and what was committed then (`committed`): so once that much is applied here, the state holds all
that was committed when that answer left. That counts on our own clock alone, and needs no symmetric network; it is late
by a round trip and up to four heartbeats' intervals, as not each of them tells it. It is as true as the leader leads:
one that was cut off from the majority gives up within its CheckQuorum, and only a linearizable read asks for that.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from tenure.base.ids import Boot, ConsensusTerm, LogIndex, MemberId
from tenure.base.instants import Instant
from tenure.raft.messages import Heartbeat

moments_max: Final = 128


@dataclass(slots=True)
class Trail:
    """Moments with a number that rises with them; of one number the last counts. When there are too many, every second
    goes and fewer are taken until it is empty: a coarser trail gives an earlier moment, never a wrong one.
    """

    moments: deque[tuple[int, Instant]] = field(default_factory=deque)
    spacing_us: int = 0

    def add(self, number: int, now: Instant) -> None:
        """The trail goes on."""
        moments = self.moments
        if moments and moments[-1][0] == number:  # while nothing is written
            moments[-1] = (number, now)
            return
        if moments and now - moments[-1][1] < self.spacing_us:
            return
        if len(moments) >= moments_max:
            self.spacing_us = 2 * max(self.spacing_us, (moments[-1][1] - moments[0][1]) // moments_max)
            self.moments = moments = deque(list(moments)[::2])
        moments.append((number, now))

    def take(self, number: int) -> Instant | None:
        """The latest moment up to this number, if there is one; it and all before it are forgotten."""
        moments = self.moments
        found: Instant | None = None
        while moments and moments[0][0] <= number:
            found = moments.popleft()[1]
        if not moments:
            self.spacing_us = 0
        return found


@dataclass(slots=True)
class Freshness:
    """See the module. `answers`: which heartbeats were answered when. `marks`: from when the state is, once so much is
    applied. `since`: the state is not older than this.
    """

    life: tuple[Boot, ConsensusTerm] | None = None
    answers: Trail = field(default_factory=Trail)
    marks: Trail = field(default_factory=Trail)
    since: Instant | None = None

    def answer(self, beat: Heartbeat, me: MemberId, now: Instant) -> None:
        """A heartbeat with echoes came and is answered now."""
        life = (beat.boot, beat.term)
        if life != self.life:  # its numbers begin anew
            self.life, self.answers = life, Trail()
        had = self.answers.take(beat.echoes.get(me, 0))
        if had is not None:
            self.marks.add(beat.committed, had)
        self.answers.add(beat.number, now)

    def as_of(self, applied: LogIndex) -> Instant | None:
        """From when the state at `applied` is, at the oldest; None: that was never known in this life."""
        found = self.marks.take(applied)
        if found is not None:
            self.at_least(found)
        return self.since

    def at_least(self, instant: Instant) -> None:
        """The state is not older than this."""
        self.since = instant if self.since is None else max(self.since, instant)
