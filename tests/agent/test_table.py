"""The table of states, walked as a whole."""

from tenure.agent.table import NOTHING, TABLE, Do, Kind, State

RUNNING = {State.STARTING, State.LEADING, State.DEMOTING, State.KILLING}
GONE = {Kind.GONE_DONE, Kind.GONE_RESTART, Kind.GONE_KEEP, Kind.GONE_AGAIN, Kind.GONE_WORN}
NO_PROCESS = {Kind.BROKEN}
"""`BROKEN` is only judged where the application was not told to start."""


def test_every_state_has_a_row_and_no_pair_is_listed_twice() -> None:
    assert set(TABLE) == set(State) == set(NOTHING)
    for state in State:
        assert not set(TABLE[state]) & NOTHING[state], state


def test_an_office_is_given_back_only_where_nothing_of_ours_runs() -> None:
    for state, rows in TABLE.items():
        for kind, (_, duties) in rows.items():
            if {Do.RELEASE, Do.FINISH} & set(duties):
                assert state not in RUNNING or kind in GONE | NO_PROCESS, (state, kind)


def test_a_running_application_is_left_behind_only_when_its_tree_is_gone() -> None:
    for state in RUNNING:
        for kind, (following, _) in TABLE[state].items():
            if following not in RUNNING:
                assert kind in GONE | NO_PROCESS, (state, kind, following)


def test_an_application_that_was_told_to_end_never_leads_again() -> None:
    for state in (State.DEMOTING, State.KILLING):
        for following, duties in TABLE[state].values():
            assert following not in {State.STARTING, State.LEADING, State.BACKOFF}
            assert Do.SPAWN not in duties


def test_every_state_can_be_reached_and_left_and_hears_a_stop() -> None:
    reached = {State.IDLE}
    while True:
        more = reached | {following for state in reached for following, _ in TABLE[state].values()}
        if more == reached:
            break
        reached = more
    assert reached == set(State)
    for state in State:
        assert Kind.STOP in TABLE[state], state


def test_nothing_is_started_but_from_a_grant_or_under_an_office_that_is_held() -> None:
    starting = {
        (state, kind) for state, rows in TABLE.items() for kind, (_, duties) in rows.items() if Do.SPAWN in duties
    }
    assert starting == {
        (State.CAMPAIGNING, Kind.GRANTED),
        (State.STARTING, Kind.READY),
        (State.STARTING, Kind.RENEWED),
        (State.BACKOFF, Kind.DUE),
    }
