"""States and transitions of `tenure run` as ONE table. `machine` makes kinds of inputs, looks here, and does.

    idle          not standing: before the start and after the end
    campaigning   standing; nothing of ours runs
    starting      granted; the application was told to start, or waits for its stub, and hasn't confirmed its exec
    leading       the application runs
    backoff       the office is held, the application isn't running: before a restart in place, or `--on-exit keep`
    demoting      SIGTERM was sent; the application may end by itself until the deadline
    killing       SIGKILL was sent to the tree; the office stays ours until the tree is gone
    quarantined   not standing for a while, because the application kept failing here

Invariant: `RELEASE` and `FINISH`, which give the office back, stand only where nothing of ours runs: in the rows of the
`GONE` kinds and of the states without a process. A test walks the table for it.
"""

from enum import Enum
from typing import Final


class State(Enum):
    """Where the agent stands."""

    IDLE = "idle"
    CAMPAIGNING = "campaigning"
    STARTING = "starting"
    LEADING = "leading"
    BACKOFF = "backoff"
    DEMOTING = "demoting"
    KILLING = "killing"
    QUARANTINED = "quarantined"


class Kind(Enum):
    """What has happened, judged by the options and the past: the table's columns."""

    BEGIN = "begin"
    CANDIDATE = "candidate"
    GRANTED = "granted"
    RENEWED = "renewed"
    UNCONFIRMED = "unconfirmed"
    DEMANDED = "demanded"
    LOST = "lost"
    REFUSED = "refused"
    READY = "ready"
    EXECUTED = "executed"
    FROZEN = "frozen"
    THAWED = "thawed"
    SIGTERMED = "sigtermed"
    BROKEN = "the guardian can't stand"
    DUE = "due"
    STOP = "stop"
    # nothing of ours runs (any more), and then
    GONE_DONE = "gone: end"
    GONE_RESTART = "gone: restart in place"
    GONE_KEEP = "gone: keep the office"
    GONE_AGAIN = "gone: stand again"
    GONE_WORN = "gone: too often"


class Do(Enum):
    """What a row does, in order; `machine` knows how."""

    BEGIN = "set the clock of --try"
    STAND = "campaign"
    TRY = "set the limit of --try"
    HOLD = "note the new holding"
    SPAWN = "start the application if its stub is ready"
    EXTEND = "note the renewal"
    ARM = "move the guardian's deadlines"
    BLANK = "show that the lease doesn't count"
    RUNS = "note the start"
    FREEZE = "stop renewing the application"
    WHY = "note the reason"
    TERMINATE = "SIGTERM, and a deadline"
    KILL = "SIGKILL, and say so again later"
    DELAY = "delay the restart"
    KEEP = "hold without an application"
    RELEASE = "give the office back"
    QUARANTINE = "stay away for a while"
    FINISH = "close the session and end"


_I, _C, _S, _L = State.IDLE, State.CAMPAIGNING, State.STARTING, State.LEADING
_B, _D, _K, _Q = State.BACKOFF, State.DEMOTING, State.KILLING, State.QUARANTINED
Row = tuple[State, tuple[Do, ...]]

_END: Final[Row] = (_I, (Do.FINISH,))
_AGAIN: Final[Row] = (_C, (Do.RELEASE, Do.STAND))
_DEMOTE: Final[Row] = (_D, (Do.WHY, Do.TERMINATE))
_ABORT: Final[Row] = (_K, (Do.WHY, Do.KILL))
_GONE_ENDING: Final[dict[Kind, Row]] = {
    Kind.GONE_DONE: _END,
    Kind.GONE_AGAIN: _AGAIN,
}
_GONE_SERVING: Final[dict[Kind, Row]] = {
    **_GONE_ENDING,
    Kind.GONE_RESTART: (_B, (Do.DELAY,)),
    Kind.GONE_KEEP: (_B, (Do.KEEP,)),
    Kind.GONE_WORN: (_Q, (Do.RELEASE, Do.QUARANTINE)),
}

TABLE: Final[dict[State, dict[Kind, Row]]] = {
    _I: {
        Kind.BEGIN: (_C, (Do.BEGIN, Do.STAND)),
        Kind.REFUSED: _END,
        Kind.BROKEN: _END,
        Kind.STOP: _END,
    },
    _C: {
        Kind.CANDIDATE: (_C, (Do.TRY,)),
        Kind.GRANTED: (_S, (Do.HOLD, Do.SPAWN)),
        Kind.REFUSED: _END,
        Kind.BROKEN: _END,
        Kind.DUE: _END,
        Kind.STOP: _END,
    },
    _S: {
        Kind.READY: (_S, (Do.SPAWN,)),
        Kind.EXECUTED: (_L, (Do.RUNS,)),
        Kind.RENEWED: (_S, (Do.EXTEND, Do.SPAWN, Do.ARM)),
        Kind.UNCONFIRMED: (_S, (Do.BLANK,)),
        Kind.FROZEN: (_S, (Do.FREEZE,)),
        Kind.THAWED: (_S, (Do.ARM,)),
        Kind.DEMANDED: _ABORT,
        Kind.LOST: _ABORT,
        Kind.SIGTERMED: _ABORT,
        Kind.DUE: _ABORT,
        Kind.STOP: _ABORT,
        Kind.BROKEN: _END,
        **_GONE_SERVING,
    },
    _L: {
        Kind.RENEWED: (_L, (Do.EXTEND, Do.ARM)),
        Kind.UNCONFIRMED: (_L, (Do.BLANK,)),
        Kind.FROZEN: (_L, (Do.FREEZE,)),
        Kind.THAWED: (_L, (Do.ARM,)),
        Kind.DEMANDED: _DEMOTE,
        Kind.LOST: _DEMOTE,
        Kind.SIGTERMED: _DEMOTE,
        Kind.DUE: _DEMOTE,
        Kind.STOP: _DEMOTE,
        **_GONE_SERVING,
    },
    _B: {
        Kind.RENEWED: (_B, (Do.EXTEND,)),
        Kind.DUE: (_S, (Do.SPAWN,)),
        Kind.BROKEN: _END,
        Kind.STOP: _END,
        **_GONE_ENDING,
    },
    _D: {
        Kind.RENEWED: (_D, (Do.EXTEND, Do.ARM)),
        Kind.LOST: (_D, (Do.WHY,)),
        Kind.STOP: _ABORT,
        Kind.DUE: (_K, (Do.KILL,)),
        **_GONE_ENDING,
    },
    _K: {
        Kind.RENEWED: (_K, (Do.EXTEND,)),
        Kind.LOST: (_K, (Do.WHY,)),
        Kind.STOP: (_K, (Do.WHY,)),
        Kind.DUE: (_K, (Do.KILL,)),
        **_GONE_ENDING,
    },
    _Q: {
        Kind.DUE: (_C, (Do.STAND,)),
        Kind.BROKEN: _END,
        Kind.STOP: _END,
    },
}
"""Every pair that means something."""

NOTHING: Final[dict[State, frozenset[Kind]]] = {
    _I: frozenset(Kind) - {Kind.BEGIN, Kind.REFUSED, Kind.BROKEN, Kind.STOP},  # what was on its way when we ended
    _C: frozenset({Kind.READY, Kind.RENEWED, Kind.UNCONFIRMED, Kind.DEMANDED, Kind.LOST, Kind.FROZEN, Kind.THAWED}),
    _S: frozenset({Kind.CANDIDATE, Kind.REFUSED}),
    _L: frozenset({Kind.CANDIDATE, Kind.REFUSED, Kind.READY}),
    _B: frozenset({Kind.READY, Kind.CANDIDATE, Kind.REFUSED, Kind.UNCONFIRMED, Kind.FROZEN, Kind.THAWED}),
    _D: frozenset({Kind.EXECUTED, Kind.CANDIDATE, Kind.REFUSED, Kind.UNCONFIRMED, Kind.DEMANDED, Kind.FROZEN})
    | {Kind.THAWED, Kind.SIGTERMED},
    _K: frozenset({Kind.EXECUTED, Kind.CANDIDATE, Kind.REFUSED, Kind.UNCONFIRMED, Kind.DEMANDED, Kind.FROZEN})
    | {Kind.THAWED, Kind.SIGTERMED},
    _Q: frozenset({Kind.READY, Kind.CANDIDATE, Kind.REFUSED, Kind.RENEWED, Kind.UNCONFIRMED, Kind.DEMANDED, Kind.LOST})
    | {Kind.GRANTED, Kind.FROZEN, Kind.THAWED},
}
"""Pairs that may happen and change nothing. Any other pair is our mistake."""


def row(state: State, kind: Kind) -> Row:
    """Next state and duties."""
    found = TABLE[state].get(kind)
    if found is not None:
        return found
    assert kind in NOTHING[state], (state, kind)
    return state, ()
