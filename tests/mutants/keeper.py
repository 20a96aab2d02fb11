"""Mutants of the SDK's keeper: what its owner hears, and when it looks again."""

from tests.mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        "given-back-before-who-acts-knows", "P3.7", "client/offices.py",
        "Over(office.term, max(office.valid_until, office.acted_until))",
        "Over(office.term, office.valid_until)",
        "an office is given back when it ended earlier than its holder was told, who has not heard of that yet",
        (
            "client/test_keeper.py::test_what_ended_early_is_given_back_when_nobody_acts_under_it",
        ),
    ),
    Mutant(
        "earlier-end-not-told", "P3.7", "client/keeper.py",
        "            self.offices.shorten(self.state.holder)\n",
        "            self.offices.deadline()\n",
        "tenure run believes a lease for as long as its machine stood still",
        ("client/test_keeper.py::test_a_machine_that_stood_still_for_a_moment_tells_that_validity_ends_earlier",),
    ),
    Mutant(
        "overtaken-keepalive-is-a-rejection", "P3.2", "client/keeper.py",
        '        elif refused.field != "number":',
        '        elif refused.field != "":',
        "tenure run ends because one keepalive overtook another",
        ("client/test_keeper.py::test_a_keepalive_that_a_later_one_overtook_is_no_rejection", "sim:0..8"),
    ),
    Mutant(
        "the-avoided-endpoint-is-due", "L8", "client/dialer.py",
        "        waiting = [self.endpoints[name].retry_at for name in self._choice(avoid)]\n",
        "        waiting = [self.endpoints[name].retry_at for name in self._choice(None)]\n",
        "who moves and must wait for the other endpoints keeps a core busy until then",
        ("client/test_dialer.py::test_while_the_only_other_endpoint_waits_nothing_is_due", "sim:0..8"),
    ),
    Mutant(
        "a-status-is-service", "L2", "client/keeper.py",
        "self._served or not isinstance(message, messages.Members)",
        "True",
        "a member that was removed, and tells its status, is as good as any",
        ("client/test_keeper.py::test_only_an_answer_that_needs_a_quorum_says_that_an_endpoint_serves",),
    ),
    Mutant(
        "open-is-merit", "L2", "client/dialer.py",
        "        others = tuple(",
        "        self.endpoints[endpoint].failures = 0\n        others = tuple(",
        "a keeper goes round for ever among members that open streams and serve nobody",
        (
            "client/test_dialer.py::test_those_that_open_and_serve_nobody_come_before_nobody_for_ever",
            "client/test_dialer.py::test_who_opens_and_serves_nobody_waits_longer_each_time",
        ),
    ),
    Mutant(
        "many-failures-count-for-ever", "L2", "client/dialer.py",
        "        failures = min(known.failures, failures_counted_max)\n",
        "        failures = known.failures\n",
        "who was down for long is not dialled while others merely open",
        ("client/test_dialer.py::test_those_that_open_and_serve_nobody_come_before_nobody_for_ever",),
    ),
)  # fmt: skip
