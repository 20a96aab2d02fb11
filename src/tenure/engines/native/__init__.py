"""The native engine: one member of a cluster that needs nothing but itself.

    replica     PURE. Consensus core, state machine and steward: inputs of one turn in, effects out. The asyncio driver
                and the deterministic simulator run the very same object.
    desk        the requests that wait (`pending`), the rounds that they ride in (`rounds`), `stepdowns`, `views`
    pilot       the autopilot at work on the leader; what it decides is `autopilot`, a pure judgement
    changes     requests about the members: wishes that become steps of the core
    forwarding  requests that another member must answer, with a client session of our own (`client`)
    driver      the asyncio shell: gathers a turn's inputs (`pacing`), steps once, acts on the effects in their order
    transport   frames between members; `member` stands between it, the founding (`founder`) and the engine

Words. A *request* is what somebody asked of this member (`engine.AnyRequest`). It is *pending* until it is answered,
exactly once, at the latest at its deadline. A *call* is a request that another member sent us because we lead. A
*round* is one ReadIndex of the core that carries all the reads and keepalives which arrived in one turn.

Invariants.
* A proposal is answered only when exactly its entry (index and term) was applied here. When another entry took its
  index it is known never to commit and is asked again; when nobody can know, the answer says so (`no_quorum`,
  `outcome_unknown`).
* What is sent to another member may be sent twice, to different leaders: reads and keepalives are harmless to repeat,
  mutations carry a `Sequenced` origin of a client session that this member opens for itself (P9.1).
* A call that reaches a member which doesn't lead is dropped, and calls pending at a leader that is deposed are dropped:
  their sender hears of the new term too and sends them again.
* The steward lives for one consensus term; its pending keepalives end with it (P3.3).
* A witness answers nothing from its state machine, which is empty (P8); what a member answers alone carries its age.
"""
