"""A new cluster goes on from an older state: nothing that was promised is lost, nothing promised since is contradicted
(P1.4, P2.1).
"""

import pytest

from tenure.base.ids import LogIndex, NodeId, Nonce
from tenure.base.instants import WallMs
from tenure.leadership.commands import Configure, KvPut, OpenClient, Release
from tenure.leadership.engine import (
    ClientOpened,
    Compacted,
    ElectionConfig,
    Kept,
    Keyed,
    KvWritten,
    Refused,
    Sequenced,
)
from tenure.leadership.machine import Machine
from tenure.leadership.reviving import indexes_skipped, revived
from tenure.leadership.terms import founding_stamp
from tests.leadership.stage import ORDERS, Stage

NONCE, OTHER = Nonce("b" * 16), Nonce("c" * 16)


def again(stage: Stage, nonce: Nonce = NONCE, first_term: int = 5_000) -> Stage:
    """The cluster that goes on from a snapshot of this one."""
    machine = Machine.restore(stage.machine.snapshot())
    revived(machine.state, nonce, first_term, stage.wall_ms, "restored from a snapshot")
    return Stage(machine=Machine.restore(machine.snapshot()))


def test_sessions_keys_answers_and_fences_are_all_there() -> None:
    stage = Stage()
    session = stage.stand("a")
    opened = stage.do(OpenClient("c" * 16))
    assert isinstance(opened, ClientOpened)
    first = stage.do(KvPut("one", b"1", None, None, None), Sequenced(opened.client, 1, 1))
    keyed = stage.do(KvPut("two", b"2", ORDERS, stage.term_of(), None), Keyed("somebody", "key", "digest"))
    after = again(stage)
    assert set(after.machine.state.sessions) == {session}
    assert after.do(KvPut("one", b"9", None, None, None), Sequenced(opened.client, 1, 1)) == first
    assert after.do(KvPut("two", b"9", None, None, None), Keyed("somebody", "key", "digest")) == keyed
    refused = after.do(KvPut("two", b"3", None, None, None))
    assert isinstance(refused, Refused), "the key still belongs to its election"
    assert refused.code == "stale_term"


def test_no_term_goes_back() -> None:
    """P2.1, S17: the next one lies above the stored ones, the stamp and the floor, whichever is the greatest."""
    for first_term, expected in ((5_000, 5_000), (1, 1_001)):
        stage = Stage()
        session = stage.stand("a")
        assert stage.term_of() == 1_000
        after = again(stage, first_term=first_term)
        after.keep_all(session, until_ms=3_000)
        assert after.term_of() == expected


def test_the_stamp_of_a_restore_is_of_its_own_time_and_never_below_the_stored_one() -> None:
    now = WallMs(1_800_000_000_000)
    assert founding_stamp(now, None, newest=7) == (now - 1_735_689_600_000) << 6
    assert founding_stamp(now, 2**51) == 2**51


def test_who_held_an_office_holds_it_no_more_and_gets_a_new_term_a_ttl_later() -> None:
    """It may have been granted again since the snapshot: a guard that saw the newer term refuses the old for ever."""
    stage = Stage()
    session = stage.stand("a", ttl_ms=1_000)
    old = stage.term_of()
    after = again(stage)
    after.settle()
    kept = after.keep(session)
    assert isinstance(kept, Kept), "the session lives"
    assert kept.leases == (), "the old term is confirmed to nobody (P3.4)"
    assert [demand.term for demand in kept.demands] == [old]
    after.keep_all(session, until_ms=900)
    assert after.election().holder is not None, "a whole TTL passes first"
    after.keep_all(session, until_ms=300)
    holder = after.election().holder
    assert holder is not None
    assert holder.term == 5_000
    line = after.election().history[-2]
    assert (line.term, line.ended, line.reason) == (old, "restored", "restored from a snapshot")
    assert after.election().bars == {}, "it wasn't its fault"


def test_a_vacant_exclusive_office_waits_a_ttl_too() -> None:
    """Somebody may have been granted it since the snapshot was taken."""
    stage = Stage()
    session = stage.stand("a", ttl_ms=1_000)
    stage.do(Release(session, ORDERS, stage.term_of(), withdraw=False))
    after = again(stage)
    after.keep_all(session, until_ms=900)
    assert after.holder() is None
    after.keep_all(session, until_ms=300)
    assert after.holder() == "a"


def test_a_fenced_office_waits_for_nothing() -> None:
    """P3.8: its resources refuse older terms."""
    stage = Stage()
    session = stage.stand("a", ttl_ms=1_000)
    stage.do(Release(session, ORDERS, stage.term_of(), withdraw=False))
    stage.do(Configure(ORDERS, ElectionConfig(mode="fenced")))
    after = again(stage)
    after.keep_all(session, until_ms=200)
    assert after.holder() == "a"


def test_who_releases_when_asked_is_not_waited_for() -> None:
    stage = Stage()
    session = stage.stand("a", ttl_ms=1_000)
    old = stage.term_of()
    after = again(stage)
    after.keep(session)
    after.do(Release(session, ORDERS, old, withdraw=False))
    assert after.election().holder is None


def test_siblings_of_one_snapshot_never_look_equal() -> None:
    """P2.3: the same node, session and term in both, and yet two owners."""
    stage = Stage()
    session = stage.stand("a", ttl_ms=1_000)
    owners = []
    for nonce in (NONCE, OTHER):
        after = again(stage, nonce)
        after.keep_all(session, until_ms=1_500)
        holder = after.election().holder
        assert holder is not None
        owners.append((holder.node, holder.session, holder.term, holder.owner))
    assert owners[0][:3] == owners[1][:3] == (NodeId("a"), session, 5_000)
    assert owners[0][3] != owners[1][3]


def test_revisions_and_numbers_go_on_above_all_that_were_since() -> None:
    """A condition on a revision from after the snapshot must not meet another write under the same number."""
    stage = Stage()
    before = stage.do(KvPut("k", b"1", None, None, None))
    assert isinstance(before, KvWritten)
    after = again(stage)
    lost = before.revision + 5
    refused = after.do(KvPut("k", b"2", None, None, lost))
    assert isinstance(refused, Refused)
    written = after.do(KvPut("k", b"2", None, None, before.revision))
    assert isinstance(written, KvWritten), "what was there at the snapshot is as it was"
    assert written.revision > before.revision + indexes_skipped
    assert isinstance(after.machine.transitions_after(stage.machine.last_transition + 3), Compacted)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_each_revival_adds_a_nonce(times: int) -> None:
    stage = Stage()
    for number in range(times):
        stage = again(stage, Nonce(f"{number:016x}"))
    assert stage.machine.state.lineage == (Nonce("a" * 16), *(Nonce(f"{number:016x}") for number in range(times)))
    assert stage.machine.state.applied == LogIndex(times * indexes_skipped)
