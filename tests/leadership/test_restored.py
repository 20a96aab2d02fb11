"""A snapshot holds everything: whoever restores it has the very state, not only one with the same hash."""

from tenure.base.ids import ElectionName
from tenure.leadership.commands import KvPut, OpenClient, Release
from tenure.leadership.engine import ClientOpened, Keyed, Sequenced
from tenure.leadership.machine import Machine
from tests.leadership.stage import ORDERS, Stage


def test_nothing_of_the_state_is_left_out() -> None:
    """Sessions, elections with their terms, keys, answers given, and the counter."""
    stage = Stage()
    session = stage.stand("a")
    stage.campaign(session, election=ElectionName("other"))
    stage.settle()
    opened = stage.do(OpenClient("c" * 16))
    assert isinstance(opened, ClientOpened)
    stage.do(KvPut("one", b"1", None, None, None), Sequenced(opened.client, 1, 1))
    stage.do(KvPut("two", b"2", ORDERS, stage.term_of(), None), Keyed("somebody", "key", "digest"))
    state = stage.machine.state
    assert state.sessions
    assert state.elections[ORDERS].holder is not None
    assert state.clients[opened.client].answers
    assert state.keyed
    assert state.counter > state.stamp
    assert Machine.restore(stage.machine.snapshot()).state == state


def test_what_happens_after_the_freezing_is_not_in_it() -> None:
    """An answer given, an office granted, a session opened, a key written: each changes a record that was there."""
    stage = Stage()
    session = stage.stand("a")
    opened = stage.do(OpenClient("c" * 16))
    assert isinstance(opened, ClientOpened)
    stage.do(KvPut("one", b"1", None, None, None), Sequenced(opened.client, 1, 1))
    before = stage.machine.snapshot()
    frozen = stage.machine.freeze()
    stage.do(KvPut("one", b"2", None, None, None), Sequenced(opened.client, 2, 1))
    stage.do(KvPut("two", b"2", ORDERS, stage.term_of(), None), Keyed("somebody", "key", "digest"))
    stage.campaign(session, election=ElectionName("other"))
    stage.stand("b")
    stage.settle()
    stage.do(Release(session, ORDERS, stage.term_of(), withdraw=False))
    stage.settle()
    assert tuple(frozen.sections()) == before
    assert stage.machine.snapshot() != before
