"""Bugs of the autopilot (P7.2, P7.4)."""

from tests.mutants.mutant import Mutant

_TABLE = "engines/native/test_autopilot.py::test_what_follows_in_each_situation"
_STORIES = "engines/native/test_pilot.py::"

MUTANTS = (
    Mutant(
        "dead-after-inherited", "P7.4", "engines/native/autopilot.py",
        "    sums[member] = sums[member] + passed if member in sums else 0\n",
        "    sums[member] = sums[member] + passed if member in sums else 2**50\n",
        "a new leader counts silence from before it won",
        ("golden:p7_4_dead_after_begins_anew_with_a_new_leader",),
    ),
    Mutant(
        "dead-by-the-leaders-view-alone", "P7.4", "engines/native/autopilot.py",
        "    return quorum.reached(voters, sight.unheard_by)\n",
        "    return not sight.answers\n",
        "a broken cable between the leader and one voter has that replaced",
        ("golden:p7_4_nobody_is_dead_by_the_leaders_view_alone", _TABLE),
    ),
    Mutant(
        "voters-tell-nobody-whom-they-hear", "P7.4", "raft/following.py",
        "durable, speaks, core.unheard))",
        "durable, speaks, ()))",
        "nobody is ever dead",
        (_STORIES + "test_a_dead_voter_is_replaced_by_a_standby_without_a_person",),
    ),
    Mutant(
        "word-of-who-does-not-answer", "P7.4", "raft/census.py",
        "for peer, one in leader.progress.items() if answers[peer]]",
        "for peer, one in leader.progress.items()]",
        "what a voter said before it fell silent itself makes others dead",
        ("raft/test_census.py::test_the_word_of_who_does_not_answer_counts_for_nothing",),
    ),
    Mutant(
        "slept-through-counts", "P7.4", "engines/native/autopilot.py",
        "        passed = min(now - self.at, 2 * every_us)\n",
        "        passed = now - self.at\n",
        "a leader that stood still for long takes all who are silent when it wakes for dead",
        ("engines/native/test_autopilot.py::test_time_that_the_leader_slept_through_makes_nobody_dead",),
    ),
    Mutant(
        "two-changes-at-once", "P7.1", "engines/native/autopilot.py",
        "    if view.change_pending:\n",
        "    if False:\n",
        "a second change is asked for while one is under way",
        ("engines/native/test_autopilot.py::test_nothing_is_changed_while_a_change_is_under_way",),
    ),
    Mutant(
        "acts-without-a-caught-up-standby", "P7.4", "engines/native/autopilot.py",
        "    return sight.answers and sight.lag <= view.lag_max and not _is_lost(view, seat)\n",
        "    return sight.answers and not _is_lost(view, seat)\n",
        "the quorum waits for an observer that lags",
        (_TABLE,),
    ),
    Mutant(
        "steadiness-not-waited-for", "P7.4", "engines/native/autopilot.py",
        ".steady_ms >= view.settings.stabilise_ms]",
        ".steady_ms >= 0]",
        "a standby that comes and goes is promoted",
        (_TABLE,),
    ),
    Mutant(
        "any-observer-is-a-standby", "P7.4", "engines/native/autopilot.py",
        'if seat.role == "observer" and seat.standby == role]',
        'if seat.role == "observer"]',
        "a replica on another continent votes",
        (_STORIES + "test_without_a_standby_it_says_so_once_and_waits", _TABLE),
    ),
    Mutant(
        "shrinks-below-what-is-wanted", "P7.2", "engines/native/autopilot.py",
        "surplus = _remove_one(view, dead) if len(seats) > number else None\n",
        "surplus = _remove_one(view, dead)\n",
        "the dead voter goes before, or without, anybody in its place",
        (_TABLE, _STORIES + "test_without_a_standby_it_says_so_once_and_waits"),
    ),
    Mutant(
        "quorum-not-asked", "P7.2", "engines/native/autopilot.py",
        "    if not quorum.reached(voters, _answering(view)):\n",
        "    if not voters:\n",
        "voters are changed while nothing can be committed",
        (_TABLE,),
    ),
    Mutant(
        "standby-hears-the-dead", "P7.4", "engines/native/autopilot.py",
        "if is_lost(sight, (*view.configuration.voters(), seat.id))]",
        "if is_lost(sight, view.configuration.voters())]",
        "after the promotion nobody is dead any more, and one voter too many stays",
        ("golden:p7_4_nobody_is_dead_by_the_leaders_view_alone", _TABLE),
    ),
    Mutant(
        "half-a-replacement-is-forgotten", "P7.2", "engines/native/pilot.py",
        "view.configuration.index, heals=True)",
        "view.configuration.index)",
        "what was promoted in somebody's place is taken for what the operator wants",
        ("golden:p7_4_between_promotion_and_removal_another_leader_goes_on",),
    ),
    Mutant(
        "what-the-operator-wants-is-forgotten", "P7.2", "raft/membership.py",
        "wanted=(now.wanted or now.has()) if heals else None)",
        "wanted=now.wanted or now.has())",
        "the autopilot undoes what an operator did",
        (_STORIES + "test_what_an_operator_makes_of_the_voters_is_what_is_wanted",),
    ),
    Mutant(
        "living-member-is-taken-over", "P1.2", "raft/changing.py",
        "any(before.id in core.links for before in membership.former(now, seat))",
        "any(before.id in core.links for before in ())",
        "a second process with the same command line takes the place of a member that lives",
        ("golden:p7_a_member_whose_disk_is_lost_returns_under_a_new_id",),
    ),
    Mutant(
        "remark-of-another-term", "P3.5", "leadership/healing.py",
        "    if body.decided != entry_term:\n",
        "    if not body.decided:\n",
        "what a deposed leader said is told as if it were so",
        ("leadership/test_healing.py::test_a_remark_of_an_earlier_term_counts_for_nothing",),
    ),
)  # fmt: skip
