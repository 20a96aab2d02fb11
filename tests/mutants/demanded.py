"""The bugs that there must be mutants of, whatever else there is: one for each rule, and these by name."""

from typing import Final

_COUNTS: Final = {"P1": 4, "P2": 4, "P3": 9, "P4": 8, "P5": 9, "P6": 5, "P7": 5, "P9": 2}
RULES: Final[tuple[str, ...]] = (
    *(f"{part}.{number}" for part, count in _COUNTS.items() for number in range(1, count + 1)),
    "P8",
    "P10",
)
"""The numbered rules of the protocol."""

WITHOUT: Final[dict[str, str]] = {
    "P2.4": "no other engine counts terms yet",
    "P3.9": "why P3 holds: tests/leadership/test_two_holders.py",
    "P5.7": "figures of a fail-over: `make lab`",
    "P5.9": "says what was rejected",
    "P6.4": "threads and scheduling of a process: tests/server/test_serve.py, tests/e2e/test_disks.py",
    "P6.5": "TCP: `make lab` (loss without an election)",
}
"""Rules that no mutant can break, and what there is instead."""

BUGS: Final[dict[str, tuple[str, ...]]] = {
    "commit by counting old-term entries": ("old-term-commit",),
    "vote not persisted": ("vote-not-persisted", "vote-in-a-known-term-not-persisted", "stored-vote-forgotten"),
    "vote or acknowledgement sent before fsync": ("vote-before-fsync", "ack-before-fsync"),
    "term not persisted": ("term-not-persisted", "stored-term-forgotten"),
    "up-to-date check by length only, by term only": ("up-to-date-by-length", "up-to-date-by-term"),
    "observer counted in votes, commit, reads": (
        "observer-counted-in-votes",
        "observer-counted-in-commit",
        "observer-counted-in-reads",
    ),
    "quorum n/2": ("quorum-of-a-half", "quorum-of-less-than-half"),
    "change while one is pending": ("change-while-one-is-pending",),
    "change before the no-op": ("change-before-the-no-op",),
    "read without no-op, without a round, with a reused round id": (
        "read-before-the-no-op",
        "read-without-a-round",
        "round-number-used-again",
    ),
    "acknowledgement of an older term accepted": ("ack-of-an-older-term",),
    "suffix truncated although it matches": ("matching-suffix-truncated",),
    "no truncation on conflict": ("no-truncation-on-conflict",),
    "commit is the leader's, unclamped": ("commit-not-clamped",),
    "next index off by one after a snapshot": ("next-off-by-one-after-a-snapshot",),
    "older snapshot installed": ("older-snapshot-installed",),
    "snapshot without sessions, terms, idempotency table": (
        "snapshot-without-sessions",
        "snapshot-without-terms",
        "snapshot-without-clients",
        "snapshot-without-keys",
    ),
    "pre-vote bumps the term": ("pre-vote-bumps-the-term",),
    "pre-vote granted although the leader is alive": ("pre-vote-although-the-leader-lives",),
    "no check-quorum": ("no-check-quorum",),
    "TimeoutNow of an old term obeyed": ("timeout-now-of-an-old-term",),
    "vote counted twice": ("vote-counted-twice",),
    "lease counted from the reply": ("lease-counted-from-the-reply",),
    "no drift factor": ("no-drift-factor",),
    "MONOTONIC instead of BOOTTIME": (
        "monotonic-clock-in-the-holder",
        "monotonic-clock-in-the-member",
        "monotonic-clock-in-the-agent",
    ),
    "wall clock": ("wall-clock-in-the-holder",),
    "keepalive acknowledged without a round": ("keepalive-without-a-round",),
    "no full TTL after take-over": ("no-full-ttl-after-a-take-over",),
    "take-away decided too early": ("expiry-too-early", "revoke-without-waiting"),
    "lease not frozen": ("expiry-does-not-freeze", "revoke-does-not-freeze"),
    "decision applied in a later term": ("decision-applied-in-a-later-term",),
    "replayed grant believed": ("replayed-grant-believed",),
    "release without term": ("release-without-term",),
    "leading before the own vote is durable": ("leads-before-own-vote-durable",),
    "vote check against the durable log": ("log-check-against-the-durable-log",),
    "vote reply without nonce": ("vote-reply-without-boot", "vote-reply-without-attempt"),
    "acknowledgement with the current term": ("ack-with-the-current-term",),
    "deadline before drain": ("deadline-before-drain", "decides-before-the-drain"),
    "founding by a majority": ("founding-by-a-majority",),
    "replacement as one change": ("replacement-as-one-change",),
    "`dead_after` inherited": ("dead-after-inherited",),
    "change without configuration index": ("change-without-configuration-index",),
    "equal term of another owner accepted": ("equal-term-of-another-owner-accepted",),
    "evicted key executed again": ("evicted-number-executed-again", "number-below-the-window-executed"),
    "key shared across principals": ("key-shared-across-principals",),
    "term from the consensus term only": ("term-from-the-consensus-term",),
    "term reused after restart or restore": ("term-reused-after-restart", "restored-counter-not-raised"),
    "retry applied twice": ("retry-applied-twice", "operation-applied-twice"),
    "event sent before commit": ("event-before-commit",),
    "watch resumes one late": ("watch-resumes-one-late", "events-resume-one-late"),
    "witness serves": ("witness-that-leads-takes-proposals", "witness-that-leads-reads", "witness-serves-stale-reads"),
    "witness log truncated early": ("witness-truncates-early",),
    "guard compares with ≥ where > belongs, and the other way round": (
        "guard-accepts-a-lower-term",
        "guard-compares-with-at-least",
    ),
    "wiped member accepted": ("wiped-member-accepted", "id-from-the-name"),
}
