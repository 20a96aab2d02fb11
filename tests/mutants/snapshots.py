"""Bugs of snapshots on their way and in pieces, of lineages, and of what goes on from an older state (P1.4, P2.1)."""

from tests.mutants.mutant import Mutant

SHIPPING = (
    Mutant(
        "half-of-a-newer-snapshot-stays", "L4", "raft/snapshots.py",
        "        if not newest and incoming is not None and chunk.term <= incoming.term:\n",
        "        if not newest:\n",
        "a dead leader's half snapshot keeps its follower from the next leader's, for ever",
        ("golden:the_next_leaders_older_snapshot_replaces_half_of_a_newer_one",),
    ),
    Mutant(
        "another-leaders-chunks-begin-anew", "L4", "raft/snapshots.py",
        "    if incoming is None or not _continues(incoming.head, chunk):\n",
        "    if incoming is None or chunk.term != incoming.term or not _continues(incoming.head, chunk):\n",
        "each change of leader sends all of a snapshot again",
        ("golden:another_leader_goes_on_with_the_same_snapshot",),
    ),
    Mutant(
        "older-applies-behind-an-install", "P4.6", "raft/committing.py",
        "        core.applied_to = core.installed.index\n",
        "",
        "what an installed state holds already is applied once more",
        ("golden:p4_6_an_install_cancels_older_queued_applies",),
    ),
    Mutant(
        "chunk-waits-for-our-disk", "L4", "raft/replication.py",
        "        if waited >= answer_after_us(core, peer):",
        "        if waited >= retry_after_us(core, peer):",
        "after one stall of the leader's disk each lost piece of a snapshot costs seconds",
        ("raft/test_shipping.py::test_a_lost_chunk_is_sent_again_soon_however_slow_our_own_disk_is",),
    ),
    Mutant(
        "shipment-begun-anew", "P4.6", "raft/shipping.py",
        "    if shipment is None or (shipment.acked == 0 and shipment.snapshot.index < core.log.base_index):\n",
        "    if True:\n",
        "a broken link, or a newer snapshot, begins it from its first byte: a slow follower starves",
        ("golden:a_snapshot_goes_on_where_the_link_broke",),
    ),
    Mutant(
        "log-cut-under-a-shipment", "P4.6", "raft/shipping.py",
        "                has = max(has, progress.shipment.snapshot.index)\n            needed = min(needed, has)\n",
        "                has = index\n            needed = min(needed, has)\n",
        "the snapshot arrives, and what follows it is gone: another one, for ever",
        ("golden:a_newer_snapshot_starves_nobody",),
    ),
    Mutant(
        "log-kept-without-limit", "L8", "raft/shipping.py",
        "    return max(log.base_index, min(kept, max(least, _needed(core, index))))\n",
        "    return max(log.base_index, min(kept, _needed(core, index)))\n",
        "a follower that is behind makes the leader's log grow for ever",
        ("golden:the_log_waits_for_a_follower_up_to_a_limit",),
    ),
    Mutant(
        "snapshot-without-a-check", "P1.3", "raft/snapshots.py",
        "    if incoming.crc != chunk.crc:\n",
        "    if False:\n",
        "a snapshot that changed on its way is installed",
        ("raft/test_shipping.py::test_a_snapshot_whose_bytes_changed_on_the_way_is_not_installed",),
    ),
    Mutant(
        "rate-without-a-limit", "L8", "raft/shipping.py",
        "        leader.ship_credit -= _chunk(core, peer, shipment)\n",
        "        _chunk(core, peer, shipment)\n",
        "a snapshot takes the loop from heartbeats and writes",
        ("raft/test_shipping.py::test_no_more_bytes_a_second_leave_than_allowed",),
    ),
    Mutant(
        "window-never-narrows", "L8", "raft/shipping.py",
        "    elif shipment.acked > shipment.narrowed:\n",
        "    elif False:\n",
        "a slow link queues up, and heartbeats behind it",
        ("raft/test_shipping.py::test_the_window_narrows_when_chunks_have_to_wait_on_their_way",),
    ),
    Mutant(
        "staged-for-another-snapshot", "P4.6", "storage/pieces.py",
        "        if begun is not None and (self._end - begun, self._size, self._crc) == (\n"
        "            len(image.pieces), image.size, image.crc,\n"
        "        ):  # fmt: skip\n",
        "        if begun is not None:\n",
        "pieces of one snapshot are taken for those of another",
        ("storage/test_pieces.py::test_another_image_than_the_staged_one_is_written_as_a_whole",),
    ),
    Mutant(
        "next-snapshot-begun-too-early", "P4.6", "engines/native/replica.py",
        " and not self.raft.snapshot_is_due_on_disk:\n",
        ":\n",
        "its pieces take the place of those that the batch on its way names",
        ("engines/native/test_replica.py::test_the_next_snapshot_is_begun_only_when_the_last_one_is_on_the_disk",),
    ),
    Mutant(
        "piece-behind-an-install-taken", "P4.6", "storage/pieces.py",
        "        return number == 0 or (self._begun is not None and self._end == self._begun + number)\n",
        "        return True\n",
        "a piece that was on its way ends the process, or counts for another snapshot",
        ("storage/test_pieces.py::test_a_piece_that_comes_behind_an_install_belongs_to_nothing_any_more",),
    ),
    Mutant(
        "elected-with-half-a-state", "P3.4", "engines/native/replica.py",
        "self._go_on_installing(at_once=True)  #",
        "pass  #",
        "a steward decides on the state that a snapshot is about to replace",
        ("engines/native/test_replica.py::test_who_is_elected_in_the_middle_of_an_install_ends_it_first",),
    ),
)  # fmt: skip

LINEAGES = (
    Mutant(
        "siblings-of-one-age-are-one", "P1.4", "base/lineages.py",
        "    shared = min(len(ours), len(theirs))\n",
        "    shared = min(len(ours), len(theirs)) - 1\n",
        "what was recovered on both sides of a partition counts votes together",
        ("golden:p1_4_recovered_on_both_sides",),
    ),
    Mutant(
        "frames-of-the-past-taken", "P1.4", "raft/core.py",
        "        if envelope.lineage != core.nonce:",
        "        if envelope.lineage not in core.identity.lineage:",
        "a vote of the old majority counts in the restored cluster",
        ("golden:p1_4_restore_twice",),
    ),
    Mutant(
        "siblings-not-told-apart", "P1.4", "base/lineages.py",
        "    if list(ours[:shared]) != list(theirs[:shared]):\n",
        "    if ours[0] != theirs[0]:\n",
        "two clusters of one snapshot talk as if they were one",
        ("golden:p1_4_restore_twice",),
    ),
    Mutant(
        "the-past-is-a-member", "P1.4", "engines/native/member.py",
        "        why = why_not(hello.name, replica.lineage, hello.lineage)\n",
        "        why = why_not(hello.name, replica.lineage[:1], hello.lineage[:1])\n",
        "old members connect to the restored cluster",
        ("engines/native/test_revived.py::test_the_old_majority_is_refused_when_it_returns",),
    ),
    Mutant(
        "client-goes-back", "P1.4", "client/known.py",
        '            case "older":\n                return f"it was',
        '            case "older":\n                return None and f"it was',
        "a client believes the past again when an old member comes back",
        ("client/test_known.py::test_it_goes_forward_only",),
    ),
    Mutant(
        "lineage-not-asked", "P1.4", "api/lineage.py",
        '        case "newer":\n',
        '        case "newer" if False:\n',
        "an old member executes what a client of the restored cluster asks",
        ("api/test_lineage.py::test_who_knows_another_lineage_is_refused_and_nothing_is_done",),
    ),
)  # fmt: skip

REVIVING = (
    Mutant(
        "restored-counter-not-raised", "P2.1", "leadership/reviving.py",
        "    state.counter = max(state.counter, first_term - 1)\n",
        "",
        "a restored cluster grants terms that were granted since the snapshot",
        ("leadership/test_reviving.py::test_no_term_goes_back",),
    ),
    Mutant(
        "restored-holder-keeps-its-term", "P2.1", "leadership/reviving.py",
        "        if election.holder is not None:\n            holdings",
        "        if election.holder is None:\n            continue\n        if False:\n            holdings",
        "a holder is confirmed under a term that a guard may refuse for ever",
        ("leadership/test_reviving.py::test_who_held_an_office_holds_it_no_more_and_gets_a_new_term_a_ttl_later",),
    ),
    Mutant(
        "restored-vacancy-granted-at-once", "P3.4", "leadership/offices.py",
        "        if self._may_be_held_elsewhere(election, now):\n",
        "        if False:\n",
        "somebody still believes in what it was granted since the snapshot",
        ("leadership/test_reviving.py::test_a_vacant_exclusive_office_waits_a_ttl_too",),
    ),
    Mutant(
        "restored-without-a-nonce", "P1.4", "leadership/reviving.py",
        "    state.lineage = (*state.lineage, nonce)\n",
        "",
        "siblings of one snapshot look like the same owner (P2.3)",
        ("leadership/test_reviving.py::test_siblings_of_one_snapshot_never_look_equal",),
    ),
    Mutant(
        "restored-revisions-reused", "P9.2", "leadership/reviving.py",
        "    index = LogIndex(state.applied + indexes_skipped)\n",
        "    index = LogIndex(state.applied + 1)\n",
        "a condition on a revision from after the snapshot meets another write",
        ("leadership/test_reviving.py::test_revisions_and_numbers_go_on_above_all_that_were_since",),
    ),
    Mutant(
        "restored-events-in-silence", "S20", "leadership/reviving.py",
        "    state.transition += indexes_skipped\n",
        "",
        "a watcher of the old cluster waits in silence until the new one has counted that far",
        ("leadership/test_reviving.py::test_revisions_and_numbers_go_on_above_all_that_were_since",),
    ),
    Mutant(
        "restored-over-something", "P1.4", "server/reviving.py",
        "        if heir.directory.exists() and any(heir.directory.iterdir()):\n",
        "        if False:\n",
        "a directory with something in it is overwritten",
        ("server/test_reviving.py::test_a_directory_with_something_in_it_is_left_alone",),
    ),
    Mutant(
        "recovered-members-of-the-snapshot", "P1.4", "server/recovering.py",
        "            before, configuration = configuration, _configuration(entry)\n",
        "            _configuration(entry)\n",
        "who joined since the snapshot is not named among those that must never run again",
        ("server/test_recovering.py::test_the_members_are_those_of_the_log_and_not_of_the_snapshot",),
    ),
    Mutant(
        "only-voter-is-recovered-again", "P1.4", "server/recovering.py",
        "        return all(one.voters() == (self.member,) for one in self._possible())\n",
        "        return not self.seats\n",
        "a recovery that is told again makes another cluster, with another lineage",
        (
            "cli/test_snapshot.py::test_recover_of_what_was_recovered_is_refused_unless_it_is_told_so",
            "cli/test_snapshot.py::test_recover_of_one_whose_cluster_may_have_had_another_voter_is_not_refused",
        ),
    ),
    Mutant(
        "recovered-from-the-snapshot-alone", "P1.4", "server/recovering.py",
        "            machine.apply(entry.index, entry.term, entry.data)\n",
        "            pass\n",
        "what stands above the survivor's snapshot is thrown away",
        ("server/test_reviving.py::test_a_look_finds_all_and_changes_nothing",),
    ),
    Mutant(
        "snapshot-file-unchecked", "P1.3", "wire/snapshot_file.py",
        "        if trailer != found:\n",
        "        if trailer.bytes != found.bytes:\n",
        "a changed file is restored",
        ("wire/test_snapshot_file.py::test_a_flipped_bit_anywhere_is_noticed",),
    ),
)  # fmt: skip

MUTANTS = SHIPPING + LINEAGES + REVIVING
