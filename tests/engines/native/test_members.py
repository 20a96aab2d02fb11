"""Whole members over loopback: founding, forwarding, a dead leader, a planned stop, watchers."""

import asyncio
from pathlib import Path

from tenure.engines.native.driver import NativeEngine
from tenure.leadership.engine import (
    Compacted,
    KvGet,
    KvPut,
    KvValue,
    KvWritten,
    Refused,
    Request,
    Status,
    StatusReport,
    Transition,
)
from tenure.storage import NoSpace
from tests.engines.native.members import Members, eventually, members, run


async def put(engine: NativeEngine, key: str, value: bytes) -> KvWritten | Refused:
    return await engine.ask(KvPut(key, value))


def test_a_member_alone_founds_itself_and_serves(tmp_path: Path) -> None:
    async def story() -> None:
        async with members(tmp_path, 1) as cluster:
            engine = cluster.running["m1"].engine
            await cluster.leader()
            assert isinstance(await put(engine, "a", b"1"), KvWritten)
            value = await engine.ask(KvGet("a"))
            assert isinstance(value, KvValue)
            assert value.value == b"1"

    run(story())


def test_a_full_disk_shows_in_the_status_until_a_batch_is_durable(tmp_path: Path) -> None:
    async def story() -> None:
        async with members(tmp_path, 1) as cluster:
            member = cluster.running["m1"]
            await cluster.leader()

            async def obstacle() -> str | None:
                report = await member.engine.ask(Status(stale=True))
                assert isinstance(report, StatusReport)
                return report.obstacle

            assert await obstacle() is None
            member._disk_failed(NoSpace(tmp_path / "tenure.db"))  # as the disk's thread says it
            await asyncio.sleep(0)
            found = await obstacle()
            assert found is not None
            assert "free some space" in found
            assert isinstance(await put(member.engine, "a", b"1"), KvWritten)
            assert await obstacle() is None

    run(story())


def test_until_all_are_there_requests_are_refused_and_status_names_who_is_missing(tmp_path: Path) -> None:
    async def story() -> None:
        cluster = Members(tmp_path, 3)
        for name in ("m1", "m2"):
            await cluster.start(name)
        engine = cluster.running["m1"].engine
        await eventually(lambda: engine.missing == ("m3",))
        refused = await engine.ask(KvPut("a", b"1"))
        assert isinstance(refused, Refused)
        assert refused.code == "founding"
        assert "m3" in refused.reason
        report = await engine.ask(Status())
        assert isinstance(report, StatusReport)
        assert (report.state, report.quorum, report.missing) == ("founding", False, ("m3",))
        await cluster.start("m3")
        await cluster.leader()
        assert isinstance(await put(engine, "a", b"1"), KvWritten)
        for name in list(cluster.running):
            await cluster.crash(name)

    run(story())


def test_every_member_answers_and_all_agree(tmp_path: Path) -> None:
    async def story() -> None:
        async with members(tmp_path, 3) as cluster:
            await cluster.leader()
            for number, one in enumerate(cluster.running.values()):
                assert isinstance(await put(one.engine, "a", b"%d" % number), KvWritten)
                for other in cluster.running.values():
                    value = await other.engine.ask(KvGet("a"))
                    assert isinstance(value, KvValue)
                    assert value.value == b"%d" % number

    run(story())


def test_acknowledged_writes_survive_dead_leaders(tmp_path: Path) -> None:
    async def story() -> None:
        async with members(tmp_path, 3) as cluster:
            written: dict[str, bytes] = {}
            for turn in range(4):
                leader = await cluster.leader()
                asked = cluster.running[next(name for name in cluster.names if name != leader)].engine
                for number in range(10):
                    key, value = f"k{turn}.{number}", b"%d" % number
                    if isinstance(await put(asked, key, value), KvWritten):
                        written[key] = value
                await cluster.crash(leader)
                assert isinstance(await put(asked, "after", b"%d" % turn), KvWritten)
                await cluster.start(leader)
            assert len(written) == 40
            engine = cluster.running[await cluster.leader()].engine
            for key, value in written.items():
                found = await engine.ask(KvGet(key))
                assert isinstance(found, KvValue)
                assert found.value == value

    run(story())


def test_a_planned_stop_of_the_leader_hands_over_first(tmp_path: Path) -> None:
    async def story() -> None:
        async with members(tmp_path, 3) as cluster:
            leader = await cluster.leader()
            await cluster.stop(leader)
            assert "handed_over=True" in cluster.logs[leader].getvalue()
            engine = next(iter(cluster.running.values())).engine
            assert isinstance(await put(engine, "a", b"1"), KvWritten)
            again = await cluster.start(leader)
            assert "not clean" not in cluster.logs[leader].getvalue()
            found = await again.engine.ask(KvGet("a"))
            assert isinstance(found, KvValue)

    run(story())


def test_a_member_whose_directory_was_emptied_is_refused_with_what_to_do(tmp_path: Path) -> None:
    async def story() -> None:
        async with members(tmp_path, 3) as cluster:
            await cluster.leader()
            await cluster.crash("m2")
            (tmp_path / "m2").rename(tmp_path / "m2.old")
            wiped = await cluster.start("m2")
            await eventually(lambda: wiped.engine.obstacle is not None)
            refused = await wiped.engine.ask(KvPut("a", b"1"))
            assert isinstance(refused, Refused)
            assert refused.code == "founding"
            assert "member replace" in refused.reason
            report = await wiped.engine.ask(Status())
            assert isinstance(report, StatusReport)
            assert (report.state, report.quorum, report.obstacle) == ("refused", False, refused.reason)

    run(story())


def test_a_member_without_a_quorum_names_who_is_missing(tmp_path: Path) -> None:
    async def story() -> None:
        async with members(tmp_path, 3) as cluster:
            await cluster.leader()
            engine = cluster.running["m2"].engine
            report = await engine.ask(Status())
            assert isinstance(report, StatusReport)
            assert (report.quorum, report.missing, report.obstacle) == (True, (), None)
            await cluster.crash("m1")
            await cluster.crash("m3")
            report = await engine.ask(Status())
            assert isinstance(report, StatusReport)
            assert (report.quorum, report.missing, report.obstacle) == (False, ("m1", "m3"), None)

    run(story())


def test_a_watcher_at_a_follower_sees_every_transition_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with members(tmp_path, 3) as cluster:
            leader = await cluster.leader()
            follower = cluster.running[next(name for name in cluster.names if name != leader)].engine
            watch = follower.watch(0)
            for number in range(20):
                await cluster.running[leader].engine.ask(KvPut(f"k{number}", b"1"))
            seen: list[Transition] = []
            async for batch in watch:
                assert not isinstance(batch, Compacted)
                seen.extend(batch)
                if len(seen) >= 20:
                    break
            assert [transition.number for transition in seen] == list(range(1, 21))

    run(story())


def test_an_error_in_the_middle_of_a_turn_ends_the_member_and_does_not_go_on_half_done(tmp_path: Path) -> None:
    async def story() -> None:
        cluster = Members(tmp_path, 1)
        member = await cluster.start("m1")
        await cluster.leader()
        # No check stands between a peer's or a caller's request here and the log, which has no room for this number.
        unchecked = KvPut("a", b"1", if_revision=10**30)
        member.engine.submit(unchecked, None, lambda result: None)
        await eventually(lambda: cluster.crashes == [70])
        assert "OverflowError" in cluster.logs["m1"].getvalue()
        await cluster.crash("m1")

    run(story())


def test_an_answer_that_raises_hurts_nobody_else(tmp_path: Path) -> None:
    async def story() -> None:
        async with members(tmp_path, 1) as cluster:
            await cluster.leader()
            engine = cluster.running["m1"].engine

            def gone(result: object) -> None:
                raise ConnectionResetError

            request: Request[KvWritten] = KvPut("a", b"1")
            engine.submit(request, None, gone)  # type: ignore[arg-type]
            assert isinstance(await put(engine, "b", b"1"), KvWritten)
            assert engine.answers_failed == 1

    run(story())


def test_a_member_with_another_secret_gets_nowhere(tmp_path: Path) -> None:
    async def story() -> None:
        ours, other = tmp_path / "secret", tmp_path / "other"
        ours.write_text("the secret of this cluster\n")
        other.write_text("the secret of another one\n")
        async with members(tmp_path, 3, cluster_secret_file=str(ours)) as cluster:
            leader = await cluster.leader()
            stranger = next(name for name in cluster.names if name != leader)
            await cluster.crash(stranger)
            refused = await cluster.start(stranger, cluster_secret_file=str(other))
            await eventually(lambda: "another cluster secret" in cluster.logs[stranger].getvalue())
            answer = await put(refused.engine, "a", b"1")
            assert isinstance(answer, Refused)
            assert answer.code == "no_quorum"
            assert isinstance(await put(cluster.running[leader].engine, "a", b"1"), KvWritten)

    run(story())
