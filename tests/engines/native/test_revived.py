"""Whole members after a restore or a forced recovery: what is there again, and who is refused (P1.4)."""

from pathlib import Path

from tenure.base.ids import NodeId
from tenure.base.instants import WallMs
from tenure.engines.native.driver import NativeEngine
from tenure.leadership.backups import Backup
from tenure.leadership.engine import (
    Keepalive,
    Kept,
    KvGet,
    KvPut,
    KvValue,
    KvWritten,
    OpenSession,
    Refused,
    SessionOpened,
    Status,
    StatusReport,
)
from tenure.server.recovering import examine, recover
from tenure.server.reviving import Heir, revive
from tenure.server.snapshot_files import load, save
from tenure.wire.snapshot_file import Header, written
from tests.engines.native.members import Members, eventually, members, run

NOW = WallMs(1_800_000_000_000)


async def put(engine: NativeEngine, key: str, value: bytes) -> None:
    written_ = await engine.ask(KvPut(key, value))
    assert isinstance(written_, KvWritten), written_


async def get(engine: NativeEngine, key: str) -> bytes | None:
    found = await engine.ask(KvGet(key))
    return found.value if isinstance(found, KvValue) else None


async def saved(engine: NativeEngine, path: Path, *, stale: bool = False) -> Header:
    """As `GET /v1/snapshot` into a file."""
    backup = await engine.backup(stale)
    assert isinstance(backup, Backup), backup
    header = Header(
        backup.lineage, backup.index, backup.term, backup.feature, backup.members, "m1", "2026-01-01T00:00:00.000Z",
        "stale" if stale else "linearizable",
    )  # fmt: skip
    return save(path, written(header, backup.sections), overwrite=False)[0]


def recovered(cluster: Members, name: str) -> None:
    """The stopped member goes on alone."""
    directory = cluster._folder / name
    remains = examine(directory)
    assert remains.peer is not None
    recover(directory, remains, peer=remains.peer, floor=None, wall=NOW)


async def report(engine: NativeEngine) -> StatusReport:
    found = await engine.ask(Status(stale=True))
    assert isinstance(found, StatusReport)
    return found


def test_a_backup_of_any_member_has_all_that_was_acknowledged_before_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with members(tmp_path, 3) as cluster:
            leader = await cluster.leader()
            for number in range(30):
                await put(cluster.running[leader].engine, f"k{number}", b"1")
            for name, member in cluster.running.items():
                header = await saved(member.engine, tmp_path / f"{name}.snap")
                state = load(tmp_path / f"{name}.snap").state
                assert set(state.kv) == {f"k{number}" for number in range(30)}, name
                assert header.lineage == state.lineage
                assert header.index >= state.applied
                assert [seat.name for seat in header.members] == ["m1", "m2", "m3"]

    run(story())


def test_without_a_quorum_only_a_stale_backup_is_to_be_had(tmp_path: Path) -> None:
    async def story() -> None:
        async with members(tmp_path, 3) as cluster:
            leader = await cluster.leader()
            await put(cluster.running[leader].engine, "k", b"1")
            left, *others = cluster.names
            await eventually(lambda: "k" in cluster.running[left].engine.replica.machine.state.kv)  # type: ignore[union-attr]
            for name in others:
                await cluster.crash(name)
            engine = cluster.running[left].engine
            refused = await engine.backup(stale=False)
            assert isinstance(refused, Refused)
            assert refused.code == "no_quorum"
            header = await saved(engine, tmp_path / "s", stale=True)
            assert header.consistency == "stale"

    run(story())


def test_a_restored_cluster_has_it_all_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with members(tmp_path / "old", 3) as cluster:
            engine = cluster.running[await cluster.leader()].engine
            opened = await engine.ask(OpenSession(NodeId("a"), 60_000, "1" * 16, {}))
            assert isinstance(opened, SessionOpened)
            await put(engine, "k", b"1")
            header = await saved(engine, tmp_path / "s")
            await put(engine, "later", b"2")
        fresh = Members(tmp_path / "new", 3)
        heirs = [Heir(one.name, one.peer, fresh._folder / one.name) for one in fresh.config("m1").cluster]
        whole = load(tmp_path / "s")
        made = revive(
            whole.state, heirs, index=header.index, term=header.term, feature=1, floor=None, wall=NOW, why="restored"
        )
        for name in fresh.names:
            await fresh.start(name)
        engine = fresh.running[await fresh.leader()].engine
        assert await get(engine, "k") == b"1"
        assert await get(engine, "later") is None
        kept = await engine.ask(Keepalive(opened.session, 1))
        assert isinstance(kept, Kept), "the session lives on"
        assert engine.lineage() == made.lineage
        assert (await report(engine)).lineage == made.lineage
        assert (await report(engine)).forked is None
        await put(engine, "k", b"3")
        for name in list(fresh.running):
            await fresh.crash(name)

    run(story())


def test_the_old_majority_is_refused_when_it_returns(tmp_path: Path) -> None:
    async def story() -> None:
        async with members(tmp_path, 3) as cluster:
            await put(cluster.running[await cluster.leader()].engine, "k", b"1")
            m1 = cluster.running["m1"].engine
            await eventually(lambda: m1.replica is not None and m1.replica.machine.state.kv != {})
            for name in ("m2", "m3"):
                await cluster.crash(name)
            await cluster.stop("m1")
            recovered(cluster, "m1")
            await cluster.start("m1")
            await cluster.leader()
            m1 = cluster.running["m1"].engine
            await put(m1, "k", b"2")
            alone = (await cluster.start("m2")).engine
            await eventually(lambda: alone.replica is not None and alone.replica.forked is not None)
            nothing = await alone.ask(KvPut("k", b"3"))
            assert isinstance(nothing, Refused)
            assert (nothing.code, (nothing.reason or "").partition(":")[0]) == ("no_part", "left behind")
            await cluster.start("m3")
            old = [cluster.running[name].engine for name in ("m2", "m3")]
            await eventually(lambda: any(one.replica is not None and one.replica.raft.is_serving for one in old))
            await eventually(lambda: all(one.replica is not None and one.replica.forked is not None for one in old))
            assert (await report(old[0])).forked is not None
            assert await get(m1, "k") == b"2"
            assert await get(old[0], "k") == b"1", "the past goes on by itself: clients that know better refuse it"
            assert m1.replica is not None
            assert m1.replica.raft.progress() == {}, "nobody of the past takes part"
            await eventually(lambda: "left behind" in cluster.logs["m1"].getvalue())
            await eventually(lambda: "left_behind" in cluster.logs["m2"].getvalue())

    run(story())


def test_a_recovery_on_both_sides_is_told_as_forked_by_both(tmp_path: Path) -> None:
    async def story() -> None:
        async with members(tmp_path, 2) as cluster:
            await put(cluster.running[await cluster.leader()].engine, "k", b"1")
            for name in ("m1", "m2"):
                await cluster.stop(name)
                recovered(cluster, name)
            for name in ("m1", "m2"):
                await cluster.start(name)  # with the list of before, so each looks at the other's address

            def forked(name: str) -> bool:
                replica = cluster.running[name].engine.replica
                return replica is not None and replica.forked is not None and replica.forked.startswith("forked")

            await eventually(lambda: forked("m1") and forked("m2"))
            for name in ("m1", "m2"):
                await eventually(lambda name=name: " forked " in cluster.logs[name].getvalue())  # type: ignore[misc]
                await put(cluster.running[name].engine, name, b"goes on")

    run(story())


def test_new_members_join_a_recovered_cluster_and_bear_its_whole_lineage(tmp_path: Path) -> None:
    async def story() -> None:
        async with members(tmp_path, 1, apis=("m1",)) as cluster:
            await put(cluster.running[await cluster.leader()].engine, "k", b"1")
            await cluster.stop("m1")
            recovered(cluster, "m1")
            await cluster.start("m1")
            await cluster.leader()
            joined = await cluster.join("m4", "m1")
            await eventually(
                lambda: joined.engine.replica is not None and "k" in joined.engine.replica.machine.state.kv
            )
            assert joined.engine.lineage() == cluster.running["m1"].engine.lineage()
            assert len(joined.engine.lineage()) == 2

    run(story())
