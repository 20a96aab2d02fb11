"""Bugs of handing over (thesis §3.10, P7.5) and of the flow of appends (Raft §5.3)."""

from tests.mutants.mutant import Mutant

TRANSFERS = (
    Mutant(
        "transfer-is-done-whoever-leads", "P7.5", "raft/roles.py",
        "        done = leader.transfer.sent and heir == leader.transfer.target\n",
        "        done = leader.transfer.sent and heir is not None\n",
        "an operator is told that the target leads, and another does",
        ("golden:transfer_ended_by_another_leader_is_not_done",),
    ),
    Mutant(
        "transfer-to-an-observer", "P7.5", "raft/transfer.py",
        "        for member in core.voters\n        if member != core.me\n",
        "        for member in core.peers\n        if member != core.me\n",
        "who has no vote is told to campaign, and the leader waits for it",
        ("golden:transfer_to_an_observer_is_refused",),
    ),
    Mutant(
        "transfer-without-an-end", "P7.5", "raft/transfer.py",
        "    if transfer is None or core.now < transfer.ends_at:\n",
        "    if transfer is None or core.now < transfer.ends_at + 60_000_000:\n",
        "one lost frame, and a leader refuses proposals for ever",
        ("golden:transfer_that_nobody_takes_up_ends_in_time",),
    ),
    Mutant(
        "two-transfers-at-once", "P7.5", "raft/transfer.py",
        "    if leader.transfer is not None:\n        core.transfers.append(",
        "    if leader.transfer is not None and not leader.transfer.sent:\n        core.transfers.append(",
        "two targets campaign against each other",
        ("golden:transfer_twice_is_busy",),
    ),
    Mutant(
        "transfer-to-the-worst", "P7.5", "raft/transfer.py",
        "            -leader.progress[member].match,\n",
        "            leader.progress[member].match,\n",
        "proposals are refused until a laggard has caught up",
        ("golden:transfer_to_the_best",),
    ),
    Mutant(
        "transfer-to-the-dead", "P7.5", "raft/transfer.py",
        "        and leader.progress[member].heard_at >= oldest\n",
        "        and leader.progress[member].heard_at >= 0\n",
        "the leader refuses proposals and waits for who isn't there",
        ("golden:transfer_to_a_dead_member_is_refused_or_ends",),
    ),
    Mutant(
        "outbids-its-own-target", "P5.8", "raft/election.py",
        "    if leader.transfer is None:  # else it may be the very target that stands there\n",
        "    if core.me:\n",
        "a transfer ends with a third term and the old leader",
        ("golden:transfer_is_not_outbid_by_its_own_leader",),
    ),
    Mutant(
        "timeout-now-of-anybody", "P5.3", "raft/election.py",
        "message.term != core.term or core.watch.leader != sender or not isinstance(",
        "message.term != core.term or not isinstance(",
        "who doesn't lead has somebody depose the leader",
        ("golden:timeout_now_of_an_old_term_is_ignored",),
    ),
    Mutant(
        "change-during-a-transfer", "P7.5", "raft/changing.py",
        "    if leader.transfer is not None or core.is_witness:  # P7.5, P8\n",
        "    if core.is_witness:\n",
        "an entry that the target lacks when it campaigns",
        ("golden:transfer_and_changes_of_members_exclude_each_other",),
    ),
)  # fmt: skip

FLOW = (
    Mutant(
        "probe-without-waiting", "L8", "raft/replication.py",
        "            progress.probe_sent = True\n            progress.moved_at = core.now\n",
        "            progress.moved_at = core.now\n",
        "what may be rejected is sent again with every step",
        ("golden:probe_then_pipeline",),
    ),
    Mutant(
        "appends-without-a-window", "L8", "raft/replication.py",
        "    while progress.next <= end and len(progress.inflight) < settings.inflight_appends_max:\n",
        "    while progress.next <= end:\n",
        "a slow follower's queue grows with what is proposed",
        ("golden:probe_then_pipeline",),
    ),
    Mutant(
        "no-pipeline", "L4", "raft/replication.py",
        "        progress.inflight.append(last)\n        progress.next = LogIndex(last + 1)\n",
        "        progress.inflight.append(last)\n        progress.next = LogIndex(last + 1)\n"
        '        progress.state, progress.probe_sent = "probe", True\n',
        "one append a round trip",
        ("golden:probe_then_pipeline",),
    ),
    Mutant(
        "rejection-steps-back-by-one", "L4", "raft/replication.py",
        "min(reject.prev_index, place + 1)))\n",
        "reject.prev_index))\n",
        "a round trip for each entry that differs (Raft §5.3)",
        ("golden:a_log_that_conflicts_far_back_is_found_in_few_steps",),
    ),
)  # fmt: skip

MUTANTS = TRANSFERS + FLOW
