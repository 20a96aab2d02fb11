"""P2: fencing tokens only ever rise."""

import pytest

from tenure.base.errors import Invalid
from tenure.base.ids import ElectionName, NodeId, Nonce, SessionId
from tenure.leadership import terms
from tenure.leadership.commands import Release, Stamp
from tenure.leadership.engine import Noted, Refused
from tenure.leadership.machine import Machine
from tests.leadership.stage import ORDERS, Stage

NOW_MS = 1_800_000_000_000


def test_terms_rise_by_one_through_all_elections_of_the_cluster() -> None:  # P2.1
    stage = Stage()
    session = stage.stand("a")
    stage.campaign(session, election=ElectionName("mail"))
    stage.settle()
    assert (stage.term_of(), stage.term_of(ElectionName("mail"))) == (1000, 1001)
    stage.do(Release(session, ORDERS, stage.term_of(), withdraw=False))
    stage.settle()
    assert stage.term_of() == 1002


def test_the_first_term_of_a_cluster_is_its_stamp() -> None:  # P2.1
    stamp = terms.founding_stamp(NOW_MS)
    assert stamp == (NOW_MS - terms.epoch_ms) << 6
    stage = Stage(machine=Machine.founded(Nonce("a" * 16), stamp))
    stage.stand("a")
    assert stage.term_of() == stamp


def test_a_cluster_founded_two_ms_later_begins_above_64_grants_a_ms() -> None:  # P2.1
    assert terms.founding_stamp(NOW_MS + 2) >= terms.founding_stamp(NOW_MS) + 128


def test_a_stamp_stays_json_safe_for_millennia() -> None:  # P2.1
    year_ms = 366 * 86_400_000
    assert terms.stamp_of(terms.epoch_ms + 4_400 * year_ms) < 2**53


@pytest.mark.parametrize("wall_ms", [0, terms.released_ms - 1])
def test_a_wall_clock_before_the_release_needs_a_floor(wall_ms: int) -> None:  # P2.2
    with pytest.raises(Invalid, match="term-floor"):
        terms.founding_stamp(wall_ms)
    assert terms.founding_stamp(wall_ms, floor=77) >= 77


def test_a_wall_clock_behind_the_newest_stamp_needs_a_floor() -> None:  # P2.2
    newest = terms.stamp_of(NOW_MS)
    with pytest.raises(Invalid, match="newest stamp"):
        terms.founding_stamp(NOW_MS - 1, newest=newest)
    assert terms.founding_stamp(NOW_MS - 1, floor=1, newest=newest) >= newest


@pytest.mark.parametrize("floor", [0, 2**52 + 1])
def test_a_floor_above_2_to_52_is_refused(floor: int) -> None:  # P2.3
    with pytest.raises(Invalid, match="2\\^52"):
        terms.founding_stamp(NOW_MS, floor=floor)
    stage = Stage()
    before = stage.machine.state.counter
    assert isinstance(stage.do(Stamp(floor)), Refused)
    assert stage.machine.state.counter == before


def test_a_stamp_command_raises_the_counter_and_never_lowers_it() -> None:  # P2.1
    stage = Stage()
    assert stage.do(Stamp(None)) == Noted()
    raised = stage.machine.state.counter
    assert raised + 1 == terms.stamp_of(stage.wall_ms) == stage.machine.state.stamp
    assert stage.do(Stamp(5)) == Noted()
    assert stage.machine.state.counter == raised
    stage.do(Stamp(raised + 1_000))
    stage.stand("a")
    assert stage.term_of() == raised + 1_000


def test_a_stamp_command_from_a_clock_that_went_back_is_refused() -> None:  # P2.2
    stage = Stage()
    stage.do(Stamp(None))
    stage.wall_ms -= 10
    assert isinstance(stage.do(Stamp(None)), Refused)


def test_owners_differ_by_lineage_node_and_session() -> None:  # P2.3
    lineage, node, session = (Nonce("a" * 16),), NodeId("a"), SessionId("1-" + "0" * 16)
    owners = {
        terms.owner_of(lineage, node, session),
        terms.owner_of((*lineage, Nonce("b" * 16)), node, session),
        terms.owner_of(lineage, NodeId("b"), session),
        terms.owner_of(lineage, node, SessionId("2-" + "0" * 16)),
    }
    assert len(owners) == 4
    assert all(len(owner) == 32 for owner in owners)


def test_the_owner_is_computed_at_the_grant_and_kept() -> None:  # P2.3
    stage = Stage()
    session = stage.stand("a")
    holder = stage.machine.holder(ORDERS)
    assert holder is not None
    assert holder.owner == terms.owner_of((Nonce("a" * 16),), NodeId("a"), session)
    assert holder.lease.fence_token == f"t1.orders.1000.{holder.owner}"
