"""Members that leave, move and turn into witnesses, as whole members over loopback."""

from pathlib import Path

from tenure.cli.demo_processes import free_ports
from tenure.engines.native.driver import NativeEngine
from tenure.leadership.engine import (
    AmendMember,
    DemoteMember,
    KvGet,
    KvPut,
    ListMembers,
    RemoveMember,
    Status,
)
from tests.engines.native.members import Members, done, eventually, members, promoted, refused, run


def another(cluster: Members, *but: str) -> str:
    """A running member that is none of these."""
    return next(name for name in cluster.running if name not in but)


def stopped_because(engine: NativeEngine) -> str:
    """Why it takes no part any more."""
    replica = engine.replica
    return (replica.obstacle or "") if replica is not None else ""


def test_who_was_removed_while_it_was_away_hears_it_when_it_is_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with members(tmp_path, 3, apis=("m1",)) as cluster:
            leader = await cluster.leader()
            await cluster.join("m4", "m1")
            engine = cluster.running[leader].engine
            await eventually(lambda: cluster.running["m4"].engine.replica is not None)
            voter = another(cluster, leader, "m4", "m1")
            for gone in (voter, "m4"):
                await cluster.crash(gone)
                await done(engine, RemoveMember(gone))
                back = (await cluster.start(gone)).engine
                await eventually(lambda e=back: "was removed from the cluster" in stopped_because(e))  # type: ignore[misc]
                report = await done(back, Status())
                assert (report.state, report.quorum) == ("stopped", False)
                assert "tenure serve --join" in (report.obstacle or "")
                assert "index" not in (report.obstacle or ""), "it can't know at which: what it hears of is the newest"
                for answer in (
                    await refused(back, KvPut("a", b"1")),
                    await refused(back, KvGet("a")),
                    await refused(back, ListMembers()),
                    await refused(back, RemoveMember("m1")),
                ):
                    assert (answer.code, "was removed" in (answer.reason or "")) == ("no_part", True)
                assert f"{gone} (" in cluster.logs[leader].getvalue()
            assert len((await done(engine, ListMembers())).members) == 2

    run(story())


def test_a_member_moves_to_another_address_by_an_amendment(tmp_path: Path) -> None:
    async def story() -> None:
        async with members(tmp_path, 3) as cluster:
            leader = await cluster.leader()
            moved = another(cluster, leader)
            await cluster.crash(moved)
            (port,) = free_ports(1)
            address = f"127.0.0.1:{port}"
            back = (await cluster.start(moved, peer=address, advertise_peer=address)).engine
            engine = cluster.running[leader].engine
            await done(engine, AmendMember(moved, peer=address))
            written = await done(engine, KvPut("a", b"1"))
            await eventually(lambda: back.replica is not None and back.replica.applied >= written.revision)
            taken = await refused(engine, AmendMember(another(cluster, moved), peer=address))
            assert taken.code == "address_in_use"

    run(story())


def test_a_witness_serves_nobody_from_the_founding_on_and_after_a_new_start(tmp_path: Path) -> None:
    async def story() -> None:
        async with members(tmp_path, 3, witnesses=1) as cluster:
            leader = await cluster.leader()
            await done(cluster.running[leader].engine, KvPut("a", b"1"))
            for _ in range(2):
                witness = cluster.running["m3"].engine
                assert witness.unserving() is not None
                for get in (KvGet("a"), KvGet("a", stale=True)):
                    assert (await refused(witness, get)).code == "no_state"
                assert (await refused(witness, KvPut("a", b"2"))).code == "no_state"
                report = await done(witness, Status(stale=True))
                assert report.state == "witness"
                assert "holds no state" in cluster.logs["m3"].getvalue()
                await cluster.crash("m3")
                await cluster.start("m3")
                await cluster.founded()
            status = await done(cluster.running[leader].engine, Status())
            assert status.members["m3"].role == "witness"

    run(story())


def test_an_observer_becomes_a_witness_and_a_voter_an_observer_that_tells_its_age(tmp_path: Path) -> None:
    async def story() -> None:
        async with members(tmp_path, 3, apis=("m1",)) as cluster:
            leader = await cluster.leader()
            engine = cluster.running[leader].engine
            far = (await cluster.join("m4", "m1")).engine
            written = await done(engine, KvPut("a", b"1"))
            await eventually(lambda: far.replica is not None and far.replica.applied >= written.revision)
            demoted = another(cluster, leader, "m4")
            await done(engine, DemoteMember(demoted))
            old = await done(cluster.running[demoted].engine, KvGet("a", stale=True))
            assert old.value == b"1"
            assert old.as_of is not None
            assert old.as_of.applied_index >= written.revision
            assert (await done(engine, KvGet("a"))).as_of is None
            await promoted(engine, "m4", "witness")
            await eventually(lambda: far.unserving() is not None)
            assert " witness " in cluster.logs["m4"].getvalue()
            absent = await refused(cluster.running[demoted].engine, KvGet("nothing", stale=True))
            assert (absent.code, absent.as_of is not None) == ("unknown_key", True)

    run(story())
