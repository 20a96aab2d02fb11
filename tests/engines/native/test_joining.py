"""`--join` in one process: what a member that joins says, how it becomes one, and that a crash only delays it."""

import asyncio
import io
from pathlib import Path

import msgspec
import pytest

from tenure.base.ids import LogIndex, MemberId, Nonce
from tenure.engines.native.driver import NativeEngine
from tenure.leadership.engine import (
    AddMember,
    KvGet,
    KvPut,
    KvValue,
    ListMembers,
    MembersView,
    RemoveMember,
    Status,
    StatusReport,
)
from tenure.raft.entries import Configuration, Seat
from tenure.raft.founding import Record
from tenure.server.assembly import Assembled, bind, open_store
from tenure.server.clock import RealClock
from tenure.server.config import ConfigError
from tenure.server.joining import Joiner, Pace
from tenure.server.logs import Log
from tests.engines.native.members import Members, done, eventually, members, promoted, refused, run


async def roles(engine: NativeEngine) -> dict[str, str]:
    view = await done(engine, ListMembers())
    return {seat.name: seat.role for seat in view.members}


async def stale(engine: NativeEngine) -> StatusReport:
    return await done(engine, Status(stale=True))


def value(engine: NativeEngine, key: str) -> bytes | None:
    """What a member holds, without asking anybody."""
    replica = engine.replica
    found = replica.machine.read(KvGet(key), None) if replica is not None else None
    return found.value if isinstance(found, KvValue) else None


def test_a_new_member_joins_catches_up_and_is_promoted(tmp_path: Path) -> None:
    async def story() -> None:
        async with members(tmp_path, 1, apis=("m1",)) as cluster:
            first = cluster.running["m1"].engine
            await cluster.leader()
            await done(first, KvPut("a", b"1"))
            second = (await cluster.join("m2", "m1")).engine
            await eventually(lambda: value(second, "a") == b"1")
            assert await roles(second) == {"m1": "voter", "m2": "observer"}
            await promoted(second, "m2")
            assert await roles(first) == {"m1": "voter", "m2": "voter"}
            assert "cluster_differs" not in cluster.logs["m1"].getvalue() + cluster.logs["m2"].getvalue()

    run(story())


def test_until_it_is_taken_in_it_says_whom_it_asks_and_what_stands_in_the_way(tmp_path: Path) -> None:
    async def story() -> None:
        cluster = Members(tmp_path, 1)
        joiner = await cluster.join("m2", "m1")
        try:
            await eventually(lambda: joiner.engine.obstacle is not None)
            report = await stale(joiner.engine)
            assert (report.state, report.quorum) == ("joining", False)
            assert report.missing == (cluster.endpoint("m1"),)
            assert report.obstacle is not None
            assert "refused" in report.obstacle.lower()
            no = await refused(joiner.engine, KvPut("a", b"1"))
            assert no.code == "joining"
            assert cluster.endpoint("m1") in no.reason
            assert joiner.engine.unserving() == no
            await cluster.start("m1")
            await eventually(lambda: joiner.engine.replica is not None)
            assert joiner.engine.unserving() is None
        finally:
            for name in list(cluster.running):
                await cluster.crash(name)

    run(story())


def test_a_name_in_use_is_told_and_asked_again_until_it_is_mended(tmp_path: Path) -> None:
    async def story() -> None:
        async with members(tmp_path, 1, apis=("m1",)) as cluster:
            first = cluster.running["m1"].engine
            await cluster.leader()
            before = AddMember(MemberId("9" * 16), "m2", "127.0.0.1:9")
            await done(first, before)
            told: list[str] = []
            taken: list[MembersView] = []
            request = AddMember(MemberId("2" * 16), "m2", "127.0.0.1:10")
            pace = Pace(0.01, 0.05, 0.05)
            loop = asyncio.get_running_loop()
            endpoints = (cluster.endpoint("m1"),)
            joiner = Joiner(loop, endpoints, lambda: None, request, taken.append, told.append, pace)
            joiner.start()
            await eventually(lambda: len(told) > 1)
            assert "m2 is the name of the member 9999999999999999" in told[-1]
            assert "Give the new member another name" in told[-1]
            await done(first, RemoveMember("m2"))
            await eventually(lambda: bool(taken))
            assert await roles(first) == {"m1": "voter", "m2": "observer"}
            joiner.stop()

    run(story())


def test_with_the_cluster_secret_it_is_taken_in_and_with_another_it_is_told_so(tmp_path: Path) -> None:
    async def story() -> None:
        ours, other = tmp_path / "secret", tmp_path / "other"
        ours.write_text("the secret of this cluster\n")
        other.write_text("the secret of another one\n")
        async with members(tmp_path, 1, apis=("m1",), cluster_secret_file=str(ours), require_secret=True) as cluster:
            await cluster.leader()
            stranger = await cluster.join("m2", "m1", cluster_secret_file=str(other))
            await eventually(lambda: "not this cluster's" in (stranger.engine.obstacle or ""))
            await cluster.crash("m2")
            joiner = await cluster.join("m2", "m1")
            await eventually(lambda: joiner.engine.replica is not None)

    run(story())


def test_a_crash_before_and_after_its_record_is_durable_only_delays_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with members(tmp_path, 1, apis=("m1",)) as cluster:
            first = cluster.running["m1"].engine
            await cluster.leader()
            config = cluster.joining("m2", "m1")
            opened = open_store(config)
            peer = str(config.advertise_peer)
            await done(first, AddMember(opened.identity.member, "m2", peer))
            opened.store.close(clean=False)  # it died when the cluster had it, and its disk knew nothing of that yet
            joined = await cluster.join("m2", "m1")
            await eventually(lambda: joined.engine.replica is not None)
            await cluster.crash("m2")
            again = await cluster.start("m2")  # without --join: it belongs there
            await eventually(lambda: again.engine.replica is not None and again.engine.replica.raft.leader is not None)
            await cluster.crash("m2")
            again = await cluster.join("m2", "m1")
            assert "joined_already" in cluster.logs["m2"].getvalue()
            assert again.engine.replica is not None
            assert await roles(first) == {"m1": "voter", "m2": "observer"}
            assert "cluster_differs" not in cluster.logs["m2"].getvalue()

    run(story())


def test_a_directory_in_the_middle_of_a_founding_does_not_join(tmp_path: Path) -> None:
    async def story() -> None:
        cluster = Members(tmp_path, 1)
        config = cluster.joining("m2", "m1")
        opened, listener = open_store(config), bind(config.api)
        seat = Seat(opened.identity.member, "m2", "127.0.0.1:9")
        opened.store.set_founding("pending", Record(Nonce("c" * 16), Configuration(LogIndex(0), (seat,)), 7))
        opened = msgspec.structs.replace(opened, identity=opened.store.identity)
        with pytest.raises(ConfigError, match="founding that isn't finished"):
            Assembled(config, Log(RealClock(), "m2", "info", "text", io.StringIO()), opened, listener)
        listener.close()
        opened.store.close(clean=False)

    run(story())
