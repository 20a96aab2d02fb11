"""Who leads: the replicated state machine, the steward that decides for it, the holder's half of the lease rules. PURE.

Idea. Everything that must never be forgotten or disputed (sessions, candidacies, holdings with their terms, fenced
keys, answers already given) is state that a consensus log feeds: `machine.Machine.apply`. Everything that only time can
tell (who is alive, who is healthy, when a lease has run out) is in the memory of the `steward.Steward`, which lives on
the consensus leader for one consensus term and turns what it sees into commands. Everything that a node may believe
about its own lease is in `holder.Holder`. The three meet in one rule (P3.9): a holder's lease ends before any steward
may take it away.

    commands    what stands in the log: tagged, versioned, and how requests become it
    checks      the shape of a request, checked once where it enters
    state       the replicated records                       limits   every bound, with its unit
    terms       stamps, owners, fencing tokens (P2)          snapshots  all of it as bytes and back
    machine     apply: one command, one result, some transitions; it hands on to
                sessions, elections, holdings, decisions, kv, idempotency
    views       what reads answer
    steward     sessions and deadlines (`slots`), elections (`offices`, `choosing`), old answers (`evictions`),
                what only it can say in views (`hints`)
    healing     the autopilot's settings and what it did, replicated (`autopilot`: the requests about it)
    waiting     when a begun stepdown is done, and what to answer
    holder      validity of a lease, as its holder may believe it
    engine      the seam: the `Engine` protocol, its `requests` with their results, and its `values`

Invariants. One node holds an election at a time; every grant's term is above every earlier one's in the whole cluster
(P2.1). A decision names exactly the holding or vacancy that it was made for, and the consensus term in which it was
made (P3.4, P3.5); anything else does nothing. No clock enters `apply`: times in the history are the commands' (P10).

Left out: consensus itself (`raft`), durability, transport, and any engine's way of asking for time.
"""
