"""The consensus core: Raft as one pure function of events and time.

Idea. `Raft.step(events, now) -> Ready` takes what happened and says what must follow; it never waits, never reads a
clock, never rolls a die of its own. Whatever drives it (the asyncio driver, the simulator, a golden script) owns the
sockets and the disk. So every interleaving can be replayed from its inputs.

Words. A *term* here is a consensus term (Raft's). A *batch* is one durable write; one is in flight, the rest gathers
(P4.1). A message leaves *early* (before the disk) or *after* the batch that makes its promise true: which of the two is
part of the output's type (`Ready.send`, `Batch.send_after_persist`). A *note* says that its sender no longer hears the
leader (P5.1). A *round* is one numbered heartbeat to all: a quorum of answers proves that the leader still led after
the number was made (P3.3).

Invariants. At most one leader per term; a vote, an acknowledgement or an own vote counts only when durable (P4.8);
committed entries are never lost or changed; nothing is read before the term's own no-op is committed. Safety never
depends on a clock or on who campaigns when: all of `suspicion` and `timing` may be wrong, and only time is lost.

Who belongs to the cluster stands in the log, in force from append (P7.1). *Observers* get everything and count for
nothing, *witnesses* vote and hold no state (P8).

Restore and recovery (P1.4) are not of this package: they make whole data directories (`tenure.server.reviving`).

Modules, lowest first: `entries`, `messages`, `events`, `ready` (types); `quorum` and `membership` (arithmetic of
majorities and of configurations); `log` (the log in memory and how much of it is durable); `timing` (P6); `freshness`;
`state` (all that a member knows; outputs gathered); `disk` (batches, P4); `versions` (P10); `replication` (leader's
half), `following` (follower's half), `suspicion` (notes, P5), `election`, `reads`, `snapshots`, `shipping` (of
snapshots), `transfer`, `witnesses` (P8); `configurations` (those in the log), `census` (who hears whom), `changing`
(the leader's judgement); `ticks` (deadlines); `core` (dispatch).
`founding`: what comes before the first term (P1.2).
"""
