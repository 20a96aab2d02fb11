"""P3.3: what rides in a round is answered only from a state that has come to its read index."""

from tenure.base.ids import LogIndex
from tenure.engines.native.pending import Book
from tenure.engines.native.rounds import Rounds
from tenure.raft.ready import ReadState


def test_a_confirmed_round_waits_until_its_index_is_applied() -> None:
    rounds = Rounds(LogIndex(3))
    rounds.gathering.append((7, None))
    token = rounds.begin(Book(0))
    rounds.granted(ReadState(token, LogIndex(5)))
    assert rounds.take_ready() == []
    rounds.applied(LogIndex(4))
    assert rounds.take_ready() == []
    rounds.applied(LogIndex(5))
    assert rounds.take_ready() == [(7, None)]


def test_nothing_of_a_round_outlives_its_term() -> None:
    rounds = Rounds(LogIndex(3))
    book = Book(0)
    rounds.gathering.append((7, None))
    open_token = rounds.begin(book)
    rounds.gathering.append((8, None))
    confirmed = rounds.begin(book)
    rounds.granted(ReadState(confirmed, LogIndex(5)))
    rounds.gathering.append((9, None))
    assert sorted(rounds.drop()) == [7, 8, 9]
    rounds.granted(ReadState(open_token, LogIndex(3)))
    rounds.applied(LogIndex(5))
    assert rounds.take_ready() == []
