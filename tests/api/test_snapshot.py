"""`GET /v1/snapshot`: the state as a file, whoever reads it, and however slowly."""

import http.client
from collections.abc import Iterator

import pytest

from tenure.base.ids import ConsensusTerm, LogIndex, MemberId, Nonce
from tenure.leadership.backups import Backup
from tenure.leadership.members import MemberSeat
from tenure.wire.snapshot_file import Header, Reader
from tests.api.scripted import Scripted, Server

SEATS = (MemberSeat(MemberId("1" * 16), "m1", "10.0.0.1:8369", "voter"),)


def backup(sections: Iterator[bytes]) -> Backup:
    return Backup((Nonce("a" * 16), Nonce("b" * 16)), LogIndex(7), ConsensusTerm(2), 1, SEATS, sections)


def read(data: bytes) -> tuple[Header, bytes]:
    reader = Reader()
    chunks = reader.feed(data)
    return reader.finish()[0], b"".join(chunks)


@pytest.mark.parametrize("stale", [False, True])
def test_the_file_says_what_it_is_of_and_how_it_was_asked_for(engine: Scripted, server: Server, stale: bool) -> None:
    engine.backed_up = backup(iter([b"one", b"two"]))
    answered = server.ask("GET", "/v1/snapshot" + ("?consistency=stale" if stale else ""))
    assert answered.status == 200
    assert answered.headers["content-type"] == "application/vnd.tenure.snapshot"
    assert engine.backups == [stale]
    header, state = read(answered.body)
    assert state == b"onetwo"
    assert (header.index, header.term, header.members, header.taken_by) == (7, 2, SEATS, "m1")
    assert header.consistency == ("stale" if stale else "linearizable")
    assert answered.headers["tenure-consistency"] == header.consistency
    assert header.taken_at.endswith("Z")


def test_without_a_quorum_it_is_refused(server: Server) -> None:
    answered = server.ask("GET", "/v1/snapshot")
    assert (answered.status, answered.json["code"]) == (503, "no_quorum")


def test_what_the_client_does_not_take_is_not_made(engine: Scripted, server: Server) -> None:
    """Memory stays bounded: sections are encoded as they are sent."""
    made = []

    def sections() -> Iterator[bytes]:
        for number in range(4_000):
            made.append(number)
            yield b"x" * 64 * 1024

    engine.backed_up = backup(sections())
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/v1/snapshot")
    response = connection.getresponse()
    response.read(1_000_000)
    assert server.ask("GET", "/livez").status == 200
    assert len(made) < 400, "what the sockets hold, and no more"
    response.close()
    connection.close()


def test_only_a_few_are_sent_at_once_and_each_frees_its_place(engine: Scripted, server: Server) -> None:
    engine.backed_up = backup(b"x" * 64 * 1024 for _ in range(100_000))
    open_ones = []
    for _ in range(server.app.door.limits.snapshots_max):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("GET", "/v1/snapshot")
        open_ones.append((connection, connection.getresponse()))
    refused = server.ask("GET", "/v1/snapshot")
    assert (refused.status, refused.json["code"]) == (429, "too_many")
    for connection, response in open_ones:
        response.close()
        connection.close()
    engine.backed_up = backup(iter([b"x"]))
    statuses = [server.ask("GET", "/v1/snapshot").status]
    while statuses[-1] != 200 and len(statuses) < 1_000:  # the server has to notice first that they have gone
        statuses.append(server.ask("GET", "/v1/snapshot").status)
    assert statuses[-1] == 200


def test_a_refusal_frees_its_place_too(engine: Scripted, server: Server) -> None:
    for _ in range(5):
        assert server.ask("GET", "/v1/snapshot").status == 503
    engine.backed_up = backup(iter([b"x"]))
    assert server.ask("GET", "/v1/snapshot").status == 200


def test_head_tells_the_kind_and_freezes_nothing(engine: Scripted, server: Server) -> None:
    answered = server.ask("HEAD", "/v1/snapshot")
    assert answered.status == 200
    assert answered.headers["content-type"] == "application/vnd.tenure.snapshot"
    assert engine.backups == []
