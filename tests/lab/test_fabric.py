"""Cables: what is asked of them is what packets meet."""

import random

import pytest

from lab.fabric import Cable, Fabric

MS = 1_000


def packet(to: int, text: bytes = b"") -> bytes:
    """An IPv4 header's worth of bytes."""
    return bytes([0x45]) + bytes(18) + bytes([to]) + text


def fabric(size: int = 3) -> Fabric:
    return Fabric(size, random.Random(5))


def test_a_packet_takes_as_long_as_its_direction_does() -> None:
    made = fabric()
    made.reshape([(1, 2)], Cable(delay_us=10 * MS))
    made.reshape([(2, 1)], Cable(delay_us=30 * MS))
    made.take(1, packet(2), 0)
    made.take(2, packet(1), 0)
    assert made.arrived(10 * MS - 1) == []
    assert made.due_us == 10 * MS
    assert made.arrived(10 * MS) == [(2, packet(2))]
    assert made.arrived(29 * MS) == []
    assert made.arrived(31 * MS) == [(1, packet(1))]
    assert made.tell().late_us_max == MS, "the second was taken out a millisecond late"


def test_a_cut_is_of_one_direction_and_heals() -> None:
    made = fabric()
    made.cut_only([(1, 2)])
    for source, to in ((1, 2), (2, 1), (1, 3)):
        made.take(source, packet(to), 0)
    assert {to for to, _ in made.arrived(0)} == {1, 3}
    made.cut_only([(3, 1)])
    made.take(1, packet(2), 1)
    made.take(3, packet(1), 1)
    assert [to for to, _ in made.arrived(1)] == [2]
    assert made.tell().cut == 2


def test_what_has_set_out_arrives_also_when_its_cable_is_cut_behind_it() -> None:
    made = fabric()
    made.reshape([(1, 2)], Cable(delay_us=10 * MS))
    made.take(1, packet(2), 0)
    made.cut_only([(1, 2)])
    assert made.arrived(10 * MS) == [(2, packet(2))]


@pytest.mark.parametrize("loss", [0.02, 0.5, 1.0])
def test_the_share_that_is_asked_for_is_lost(loss: float) -> None:
    made = fabric()
    made.reshape([(1, 2)], Cable(loss=loss))
    for number in range(10_000):
        made.take(1, packet(2), number)
    arrived = len(made.arrived(10_000))
    counts = made.tell()
    assert counts.lost + arrived == counts.taken == 10_000
    assert abs(counts.lost / 10_000 - loss) < 0.02


def test_jitter_spreads_and_keeps_the_order() -> None:
    made = fabric()
    made.reshape([(1, 2)], Cable(delay_us=50 * MS, jitter_us=20 * MS))
    sent = {number: number * 10 * MS for number in range(500)}
    for number, at in sent.items():
        made.take(1, packet(2, b"%d" % number), at)
    took = []
    numbers = []
    while (due := made.due_us) is not None:
        for _, data in made.arrived(due):
            number = int(data[20:])
            numbers.append(number)
            took.append(due - sent[number])
    assert numbers == sorted(sent)
    assert 30 * MS <= min(took) < 40 * MS
    assert 60 * MS < max(took) <= 70 * MS + 10 * MS, "at most what the one before it took"


def test_the_end_of_a_spike_lets_nobody_overtake() -> None:
    made = fabric()
    made.reshape([(1, 2)], Cable(delay_us=200 * MS))
    made.take(1, packet(2, b"first"), 0)
    made.reshape([(1, 2)], Cable(delay_us=10 * MS))
    made.take(1, packet(2, b"second"), 1 * MS)
    assert made.arrived(199 * MS) == []
    assert [data[20:] for _, data in made.arrived(200 * MS)] == [b"first", b"second"]


def test_what_is_not_for_a_node_goes_nowhere_and_is_counted() -> None:
    made = fabric()
    for strange in (packet(9), packet(1), b"\x60" + bytes(39), b"\x45short"):
        made.take(1, strange, 0)
    assert made.arrived(0) == []
    assert made.tell().strange == 4


def test_lateness_is_told_as_an_upper_bound() -> None:
    made = fabric()
    for number in range(100):
        made.take(1, packet(2), 0)
        made.arrived(5 if number else 1_500)
    counts = made.tell()
    assert counts.late_us(0.5) == 7
    assert counts.late_us(1.0) == 2_047
    assert made.tell().late_us(0.5) == 0, "the counts begin anew"
