"""A snapshot holds everything: whoever restores it has the very state, not only one with the same hash."""

from tenure.base.ids import ElectionName
from tenure.leadership.commands import KvPut, OpenClient
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
