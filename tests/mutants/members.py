"""Bugs of membership changes, observers and witnesses (P7, P8), and of how old a state is said to be."""

from tests.mutants.mutant import Mutant

CHANGES = (
    Mutant(
        "change-while-one-is-pending", "P7.1", "raft/changing.py",
        "    if now.index > core.commit:  # nor is done what may be rolled back\n",
        "    if now.index < 0:\n",
        "two uncommitted changes: their majorities need not meet",
        ("golden:p7_1_one_change_at_a_time",),
    ),
    Mutant(
        "change-before-the-no-op", "P7.1", "raft/changing.py",
        "    if core.commit < leader.noop:  # P7.1\n",
        "    if core.commit < 0:\n",
        "two leaders with an uncommitted change each (the bug of single-server changes)",
        ("golden:p7_1_none_before_the_no_op_of_the_term",),
    ),
    Mutant(
        "change-without-configuration-index", "P7.1", "raft/changing.py",
        "    if event.expected_index is not None and event.expected_index != now.index:\n",
        "    if event.expected_index is not None and event.expected_index < 0:\n",
        "a change acts on members that its author never saw",
        ("golden:p7_1_a_change_expects_the_members_that_its_author_saw",),
    ),
    Mutant(
        "new-leader-takes-all-for-alive", "P7.1", "raft/census.py",
        "(one.beat_acked or one.acked_at) and ",
        "",
        "a leader just elected takes members for alive that it has never heard",
        ("raft/test_census.py::test_a_new_leader_takes_nobody_for_alive_whom_it_has_not_heard",),
    ),
    Mutant(
        "a-change-ends-no-read", "P7.1", "raft/changing.py",
        "    reads.close_rounds(core, leader)",
        "    ",
        "a voter left alone waits for ever for the answers of the one that was removed: no read, no lease",
        ("golden:p7_reads_under_way_end_with_the_removal_of_whom_they_wait_for",),
    ),
    Mutant(
        "quorum-built-on-who-has-just-gone", "P7.1", "raft/changing.py",
        "    alive, promising = census.dependable(core, leader), census.promising(core, leader)\n",
        "    alive, promising = census.answering(core, leader), census.promising(core, leader)\n",
        "a change that can never commit is begun with a member that has just gone, and nobody can lead any more",
        ("golden:p7_whose_connection_has_ended_is_no_part_of_a_quorum",),
    ),
    Mutant(
        "no-roll-call", "P7", "raft/changing.py",
        "    elif called is None and ",
        "    elif called is not None and ",
        "a quorum is built on who died in silence a moment ago: nothing can commit, nor be undone",
        ("golden:p7_the_roll_is_called_before_others_count",),
    ),
    Mutant(
        "roll-call-answered-before-it", "P7", "raft/census.py",
        "and one.probe_acked >= call.number and",
        "and one.probe_acked and",
        "an answer that left before the change was asked for says nothing of now",
        ("golden:p7_the_roll_is_called_before_others_count",),
    ),
    Mutant(
        "roll-call-of-who-has-gone-since", "P7", "raft/census.py",
        "if peer in core.links and one.probe_acked >= call.number and",
        "if one.probe_acked >= call.number and",
        "who answered and whose connection has ended since is counted",
        ("golden:p7_the_roll_is_called_before_others_count",),
    ),
    Mutant(
        "roll-call-of-who-fell-silent", "P7", "raft/census.py",
        " and one.heard_at >= recent\n",
        "\n",
        "who answered and has been silent for ten beats is counted",
        ("golden:p7_the_roll_is_called_before_others_count",),
    ),
    Mutant(
        "roll-call-without-the-own-disk", "P7", "raft/census.py",
        "    return there | {core.me} if core.disk.durable >= call.own_batch else there\n",
        "    return there | {core.me}\n",
        "a leader whose disk is stuck builds a quorum on it, and never hands over",
        ("golden:p7_the_roll_asks_disks",),
    ),
    Mutant(
        "roll-call-without-the-newcomer", "P7", "raft/changing.py",
        "        if voter not in there:\n            text = ",
        "        if voter not in then.members():\n            text = ",
        "a standby whose disk is stuck is promoted",
        ("golden:p7_the_roll_asks_disks",),
    ),
    Mutant(
        "roll-call-not-repeated", "P7", "raft/changing.py",
        " and one.probe_acked < call.number and late:\n",
        " and one.probe_acked < 0 and late:\n",
        "a frame that got lost costs the change",
        ("golden:p7_the_roll_is_called_before_others_count",),
    ),
    Mutant(
        "roll-call-answered-by-an-earlier-life", "P7", "raft/links.py",
        "            progress.probe_acked = 0",
        "            progress.probe_acked += 0",
        "a member that has lost its disk since counts by what it wrote before",
        ("golden:p7_the_roll_asks_disks",),
    ),
    Mutant(
        "roll-call-without-end", "P7", "raft/ticks.py",
        "    if leader.calls:\n        changing.end_overdue(core, leader)\n",
        "",
        "who asked for a change waits for the dead, with no answer",
        ("golden:p7_the_roll_is_called_before_others_count",),
    ),
    Mutant(
        "new-leader-refuses-whom-it-has-not-heard", "P7", "raft/changing.py",
        "    alive, promising = census.dependable(core, leader), census.promising(core, leader)\n",
        "    alive = promising = census.dependable(core, leader)\n",
        "the change behind a hand-over is refused, because nobody has answered the new leader yet",
        ("golden:p7_a_new_leader_counts_only_whom_it_has_heard",),
    ),
    Mutant(
        "change-begins-after-its-time", "P7", "raft/changing.py",
        "    ends_at = min(after(core.now, patience_us), event.until)\n",
        "    ends_at = after(core.now, patience_us)\n",
        "over a long way a change begins when it was said that it had not",
        ("engines/native/test_changes.py::test_no_change_begins_after_it_was_said_that_it_did_not",),
    ),
    Mutant(
        "signs-of-life-wait-for-a-beat", "P7", "engines/native/replica.py",
        "or not self._lead[3] or self.raft.calls_the_roll\n",
        "or not self._lead[3]\n",
        "a change of the members stands still until the next beat",
        ("engines/native/test_turns.py::test_while_the_roll_is_called_every_sign_of_life_is_waited_for",),
    ),
    Mutant(
        "change-lost-with-the-leadership", "P7", "raft/roles.py",
        "    tokens += [call.event.token for call in leader.calls]\n",
        "",
        "who waits for the roll call of a leader that was deposed gets no answer",
        ("golden:p7_changes_that_wait_for_the_roll_end_with_the_leadership",),
    ),
    Mutant(
        "done-before-it-is-committed", "P7.1", "raft/changing.py",
        "    if isinstance(then, Refusal):\n        _end(core, event, then)\n        return\n"
        "    if now.index > core.commit:",
        "    if then is None or isinstance(then, Refusal):\n        _end(core, event, then)\n        return\n"
        "    if now.index > core.commit:",
        "a change is said to be done that may be rolled back",
        ("golden:p7_changes_that_wait_for_the_roll_end_with_the_leadership",),
    ),
    Mutant(
        "voter-that-does-not-know-the-members", "P1.3", "raft/changing.py",
        "        if leader.progress[voter].match < core.configuration.index:\n",
        "        if leader.progress[voter].match < 0:\n",
        "after an unclean stop a new voter with an empty log waits for founders that have left, and nobody can lead",
        ("golden:p7_who_does_not_hold_the_members_yet_is_not_promoted",),
    ),
    Mutant(
        "replacement-as-one-change", "P7.2", "raft/membership.py",
        "        return msgspec.structs.replace(promoted, replacing=halfway)\n",
        "        return _remove(promoted, wish.member)\n",
        "{A,B,C} and {A,B,D} decide apart",
        (
            "golden:p7_2_a_replacement_is_two_changes",
            "raft/test_membership.py::test_every_step_is_sound_and_its_quorums_meet_those_before",
        ),
    ),
    Mutant(
        "replacement-at-seven-promotes-first", "P7.2", "raft/membership.py",
        '    if promoted.code in {"too_many_voters", "too_many_witnesses"} and ',
        '    if promoted.code in {"too_many_witnesses"} and ',
        "seven voters can never be replaced",
        ("golden:p7_2_at_seven_voters_the_old_one_leaves_first",),
    ),
    Mutant(
        "old-one-leaves-before-the-new-one-is-looked-at", "P7.2", "raft/membership.py",
        "        return () if wish.by in voters else (wish.by,)\n",
        "        return tuple(voter for voter in then.voters() if voter not in voters)\n",
        "at seven voters a newcomer that isn't there leaves the cluster a voter short",
        ("golden:p7_2_the_newcomer_is_looked_at_before_anybody_leaves",),
    ),
    Mutant(
        "voter-takes-a-place", "P7.2", "raft/membership.py",
        "        if old is not None and now.replacing != halfway:\n",
        "        if old is not None and now.replacing == halfway:\n",
        "a replacement by who votes already only takes a voter out, and one that is halfway can't go on",
        ("golden:p7_2_who_votes_already_takes_nobodys_place",),
    ),
    Mutant(
        "replacement-half-way-for-ever", "P7.2", "raft/membership.py",
        "replacing=None if is_over else then.replacing)\n",
        "replacing=then.replacing)\n",
        "long after, by the same two names, a voter is taken out that was to stay",
        ("raft/test_membership.py::test_what_was_halfway_is_over_when_another_voter_comes_or_goes",),
    ),
    Mutant(
        "replacement-that-cannot-end", "P7.2", "raft/membership.py",
        "    if isinstance(end, Refusal):\n        return end\n",
        "",
        "a newcomer is promoted in the place of one that can't leave then",
        ("raft/test_membership.py::test_every_step_is_sound_and_its_quorums_meet_those_before",),
    ),
    Mutant(
        "active-only-from-commit", "P7.1", "raft/configurations.py",
        "            take(core, configuration_of(entry))\n",
        "            configuration_of(entry)\n",
        "a follower votes and counts by members that the leader has left behind",
        ("golden:p7_1_a_member_joins_as_an_observer_and_is_promoted",),
        (
            (
                "    configuration = configuration_of(entry)\n",
                (
                    "    configuration = configuration_of(entry)\n    if core.configuration.index < entry.index:\n"
                    "        take(core, configuration)\n"
                ),
            ),
        ),
    ),
    Mutant(
        "configuration-not-rolled-back", "P7.1", "raft/configurations.py",
        "    if core.configurations[-1].index >= start:\n",
        "    if core.configurations[-1].index < 0:\n",
        "members of a change that never was",
        ("golden:p7_1_a_change_is_rolled_back_with_its_entry",),
    ),
    Mutant(
        "snapshot-with-the-newest-configuration", "P7.1", "raft/configurations.py",
        "    return older[-1]\n",
        "    return core.configurations[-1]\n",
        "who is brought up by it takes an uncommitted change for committed",
        ("raft/test_observers.py::test_a_snapshot_holds_the_members_of_its_index_not_the_newest",),
    ),
    Mutant(
        "removed-id-returns", "P7", "raft/membership.py",
        "    if seat.id in now.removed:\n        return Refusal(\n",
        "    if not seat.id:\n        return Refusal(\n",
        "a disk that was left behind is believed again",
        (
            "golden:p7_2_a_replacement_is_two_changes",
            "raft/test_membership.py::test_every_step_is_sound_and_its_quorums_meet_those_before",
        ),
    ),
    Mutant(
        "leader-removes-itself", "P7.3", "raft/changing.py",
        "    elif core.me not in then.voters():\n",
        "    elif not then.voters():\n",
        "nobody leads until a timeout, with clients' entries in flight",
        ("golden:p7_3_a_leader_hands_over_before_it_is_removed",),
    ),
    Mutant(
        "demoted-told-before-commit", "P7.3", "raft/replication.py",
        "core.demoted[0] == peer and commit < core.demoted[1]:\n",
        "core.demoted[0] == peer and commit < 0:\n",
        "the freshest log is at a member that has no vote and gives none",
        (
            "golden:p7_3_who_is_demoted_hears_of_it_when_it_is_committed",
            "golden:p7_3_a_later_leader_tells_the_demoted_no_sooner",
        ),
    ),
    Mutant(
        "demoted-told-by-a-later-leader", "P7.3", "raft/state.py",
        "        self.demoted: tuple[MemberId, LogIndex] | None = _demoted(self.configurations)\n",
        '        leads = isinstance(getattr(self, "role", None), Leader)\n'
        "        self.demoted = _demoted(self.configurations) if leads else None\n",
        "the same by an entry that its leader inherited",
        ("golden:p7_3_a_later_leader_tells_the_demoted_no_sooner",),
    ),
    Mutant(
        "votes-refused-by-who-does-not-vote-yet", "P7.3", "raft/election.py",
        '    if asked.term < core.term:\n        return "old_term"\n    if not asked.transfer and is_heard(core):\n',
        '    if asked.term < core.term or not core.is_voter:\n        return "old_term"\n'
        "    if not asked.transfer and is_heard(core):\n",
        "a member that was promoted and hasn't heard of it blocks the election",
        ("golden:p7_3_a_vote_is_given_before_the_promotion_is_known",),
    ),
    Mutant(
        "laggard-promoted", "P7.1", "raft/changing.py",
        "        if core.log.last_index - match > core.settings.promote_lag_max or not knows:\n",
        "        if not knows:\n",
        "the quorum waits for an empty disk",
        ("golden:p7_who_lags_is_not_promoted",),
    ),
    Mutant(
        "quorum-lost-by-a-change", "P7", "raft/changing.py",
        "    if _counts_others(now, then) and not quorum.reached(then.voters(), promising):\n",
        "    if not then.voters():\n",
        "after it nothing can be decided, not even its undoing",
        ("golden:p7_a_change_that_loses_the_quorum_is_refused",),
    ),
    Mutant(
        "eighth-voter", "P7", "raft/membership.py",
        "    if voters > voters_max:\n",
        "    if voters > voters_max + 1:\n",
        "more than seven voters",
        (
            "golden:p7_2_at_seven_voters_the_old_one_leaves_first",
            "raft/test_membership.py::test_at_seven_voters_the_old_one_goes_first",
        ),
    ),
    Mutant(
        "new-member-votes-at-once", "P7", "raft/membership.py",
        '(*left, msgspec.structs.replace(seat, role="observer"))',
        '(*left, msgspec.structs.replace(seat, role="voter"))',
        "the quorum waits for an empty disk",
        ("golden:p7_1_a_member_joins_as_an_observer_and_is_promoted",),
    ),
    Mutant(
        "name-used-twice", "P7", "raft/membership.py",
        "        if other.name == seat.name:\n",
        "        if other.name is seat:\n",
        "operators and status can't tell two members apart",
        ("raft/test_membership.py::test_names_and_addresses_are_used_once_and_an_amendment_keeps_the_role",),
    ),
    Mutant(
        "farewell-before-commit", "P7", "raft/configurations.py",
        "    known = [one for one in core.configurations if one.index <= core.commit]\n",
        "    known = core.configurations\n",
        "a member stops for good for a removal that is rolled back",
        ("raft/test_observers.py::test_who_left_hears_it_when_that_can_be_rolled_back_no_more",),
    ),
    Mutant(
        "the-removed-are-not-told", "P7", "engines/native/member.py",
        "        said = replica.raft.farewell(peer) if replica is not None and not replica.stopped else None\n",
        "        said = replica.raft.farewell(peer) if replica is not None and replica.stopped else None\n",
        "a removed member waits for a leader for ever, and nobody knows why",
        ("engines/native/test_membership.py::test_who_was_removed_while_it_was_away_hears_it_when_it_is_back",),
    ),
    Mutant(
        "joiner-believes-any-record", "P1.2", "raft/founding.py",
        '        if not self._listed and self._stored.state != "sealed":\n            return',
        "        if not self._listed and self._stored.record is not None:\n            return",
        "who joins takes part in another's founding",
        ("raft/test_founding.py::test_who_joins_listens_to_nobody_and_is_sealed_by_what_the_cluster_answers",),
    ),
)  # fmt: skip

OBSERVERS = (
    Mutant(
        "observer-counted-in-votes", "P7", "raft/election.py",
        "core.me in role.granted and quorum.reached(core.voters, role.granted):\n",
        "core.me in role.granted and len(role.granted) >= quorum.size(len(core.voters)):\n",
        "a leader without a majority of voters",
        ("raft/test_observers.py::test_votes_of_observers_make_no_leader",),
    ),
    Mutant(
        "observer-counted-in-pre-votes", "P7", "raft/election.py",
        "        role.granted |= suspicion.believed(core)\n        if quorum.reached(core.voters, role.granted):\n",
        "        role.granted |= suspicion.believed(core)\n        if len(role.granted) > len(core.voters) // 2:\n",
        "terms rise for nothing",
        ("raft/test_observers.py::test_pre_votes_of_observers_make_no_candidate",),
    ),
    Mutant(
        "observer-counted-in-commit", "P7", "raft/replication.py",
        "    matches: list[int] = [log.durable if voter == core.me else leader.progress[voter].match"
        " for voter in core.voters]\n",
        "    matches: list[int] = [log.durable if voter == core.me else leader.progress[voter].match"
        " for voter in core.configuration.members()]\n",
        "an acknowledged write that no majority of voters holds",
        ("golden:p7_observers_never_count",),
    ),
    Mutant(
        "observer-counted-in-reads", "P7", "raft/reads.py",
        "        [leader.beat if voter == core.me else leader.progress[voter].beat_acked for voter in core.voters]\n",
        "        [leader.beat if voter == core.me else leader.progress[voter].beat_acked\n"
        "         for voter in core.configuration.members()]\n",
        "a deposed leader among observers answers reads",
        ("golden:p7_observers_never_count",),
    ),
    Mutant(
        "observer-counted-in-check-quorum", "P7", "raft/replication.py",
        "        voters = core.voters\n        times: list[int] = [core.now if voter == core.me",
        "        voters = core.voters + tuple(one for one in core.peers if one not in core.voters)\n"
        "        times: list[int] = [core.now if voter == core.me",
        "a leader that only observers hear stays",
        ("golden:p7_observers_never_count",),
    ),
    Mutant(
        "age-from-the-receipt", "ADR25", "raft/freshness.py",
        "            self.marks.add(beat.committed, had)\n",
        "            self.marks.add(beat.committed, now)\n",
        "a state behind a slow link is said to be young",
        ("raft/test_freshness.py::test_nobody_claims_a_younger_state_than_it_has",),
    ),
    Mutant(
        "age-without-what-is-applied", "ADR25", "raft/freshness.py",
        "        found = self.marks.take(applied)\n",
        "        found = self.marks.take(2**60)\n",
        "who lags by a million entries is said to be current",
        ("raft/test_freshness.py::test_what_was_committed_when_an_answer_left_is_there_once_so_much_is_applied",),
    ),
    Mutant(
        "age-by-the-answers-of-another-term", "ADR25", "raft/freshness.py",
        "        if life != self.life:  # its numbers begin anew\n",
        "        if self.life is None:\n",
        "a number of another leader dates this one's heartbeat",
        ("raft/test_freshness.py::test_numbers_of_another_life_or_term_say_nothing_about_these_answers",),
    ),
)  # fmt: skip

WITNESSES = (
    Mutant(
        "witness-truncates-early", "P8", "raft/witnesses.py",
        "    above = core.snapshot.index if core.snapshot is not None else 0\n",
        "    above = core.snapshot.index if core.snapshot is not None else 0\n"
        "    core.log.compact(min(core.applied_to, core.log.durable))\n"
        "    core.disk.compact_to, core.disk.dirty = core.log.base_index + 1, True\n",
        "what it alone holds is gone before the copy has come",
        ("golden:p8_a_witness_keeps_a_copy_and_cuts_its_log", "golden:p8_what_only_a_witness_holds_is_handed_on"),
    ),
    Mutant(
        "witness-never-asks", "P8", "raft/witnesses.py",
        "    if held < settings.witness_entries_max and core.log.size < settings.witness_bytes_max:\n",
        "    if held >= 0:\n",
        "a witness's log grows for ever",
        ("golden:p8_a_witness_keeps_a_copy_and_cuts_its_log",),
    ),
    Mutant(
        "witness-that-leads-takes-proposals", "P8", "raft/core.py",
        "    elif leader.transfer is not None or core.is_witness:\n",
        "    elif leader.transfer is not None and not core.is_witness:\n",
        "it has no state to apply them to",
        ("golden:p8_a_witness_that_leads_serves_nobody",),
    ),
    Mutant(
        "witness-that-leads-reads", "P8", "raft/reads.py",
        "    elif core.is_witness:\n",
        "    elif core.is_witness and core.commit < 0:\n",
        "it has no state to read",
        ("golden:p8_a_witness_that_leads_serves_nobody",),
    ),
    Mutant(
        "witness-serves-stale-reads", "P8", "engines/native/desk.py",
        "        if self._replica.witness and kind not in (NOTE, CHANGE) and",
        "        if self._replica.witness and kind not in (NOTE, CHANGE, READ) and",
        "keys that exist are said to be unknown",
        ("engines/native/test_membership.py::test_a_witness_serves_nobody_from_the_founding_on_and_after_a_new_start",),
    ),
    Mutant(
        "witness-refuses-itself", "P8", "engines/native/desk.py",
        "        if peer is None and token != internal_token and (",
        "        if peer is None and (",
        "what waits at a member that becomes a witness is never passed on",
        ("engines/native/test_replica.py::test_what_waits_at_a_member_that_learns_that_it_is_a_witness_is_passed_on",),
    ),
    Mutant(
        "witness-serves-streams", "P8", "engines/native/driver.py",
        "        return NO_STATE if self._replica.witness else None\n",
        "        return NO_STATE if self._replica.stopped else None\n",
        "clients hold on to who can do nothing for them",
        ("engines/native/test_membership.py::test_a_witness_serves_nobody_from_the_founding_on_and_after_a_new_start",),
    ),
    Mutant(
        "transfer-to-a-witness", "P8", "raft/transfer.py",
        "        and leader.progress[member].match > 0\n        and not core.is_witness_seat(member)\n",
        "        and leader.progress[member].match > 0\n",
        "a planned hand-over ends with nobody who serves",
        ("golden:p8_a_planned_transfer_never_goes_to_a_witness",),
    ),
    Mutant(
        "witness-keeps-the-leadership", "P8", "raft/core.py",
        "    if core.is_witness:\n        witnesses.hand_on(core, leader)\n",
        "    if core.is_witness and leader.transfer is not None:\n        witnesses.hand_on(core, leader)\n",
        "nobody serves while a voter with state is there",
        ("golden:p8_what_only_a_witness_holds_is_handed_on",),
    ),
    Mutant(
        "witnesses-are-half", "P8", "raft/membership.py",
        "    if 2 * witnesses >= voters:",
        "    if 2 * witnesses > voters:",
        "one of two voters holds the only copy that can serve",
        (
            "golden:p8_too_many_witnesses_are_refused",
            "raft/test_membership.py::test_every_step_is_sound_and_its_quorums_meet_those_before",
        ),
    ),
    Mutant(
        "witness-becomes-a-voter", "P8", "raft/membership.py",
        '    if seat.role != "observer":\n        return Refusal(\n            "witness_stays"',
        '    if seat.role == "voter":\n        return Refusal(\n            "witness_stays"',
        "a voter without a state machine",
        ("golden:p8_too_many_witnesses_are_refused",),
    ),
    Mutant(
        "witness-serves-after-a-new-start", "P8", "engines/native/replica.py",
        "        if self._is_witness_in(restored.configuration):\n            self._become_witness()\n",
        "        if self._is_witness_in(restored.configuration) and not name:\n            self._become_witness()\n",
        "a witness that starts again serves what it has not applied",
        ("engines/native/test_membership.py::test_a_witness_serves_nobody_from_the_founding_on_and_after_a_new_start",),
    ),
)  # fmt: skip

MUTANTS = CHANGES + OBSERVERS + WITNESSES
