"""The switch process: packets from one device to another, through the fabric.

    python -m lab.switch CONTROL_FD SEED TUN_FD…

It must not distort: a real-time class where the kernel lets us (the work per packet is some ten microseconds, so it
starves nobody), the collector off, `select` and not `epoll`, because Python rounds epoll's timeout up to milliseconds.
It ends when the control socket does.
"""

import contextlib
import gc
import os
import random
import select
import socket
import sys
import time
from typing import Final

import msgspec
from msgspec import Struct

from lab.fabric import Cable, Counts, Fabric, Pair

real_time_priority: Final = 10
packet_bytes_max: Final = 65_535
burst_packets_max: Final = 64
"""Read from one device before others get their turn."""
control_bytes_max: Final = 65_536


class Reshape(Struct, frozen=True, tag=True):
    """These cables are like this from now on."""

    pairs: list[Pair]
    cable: Cable


class CutOnly(Struct, frozen=True, tag=True):
    """These cables are cut, all others whole."""

    pairs: list[Pair]


class Tell(Struct, frozen=True, tag=True):
    """Say what happened since the last time."""


Command = Reshape | CutOnly | Tell


class Told(Struct, frozen=True):
    """The answer to each command, when it has taken effect. `scheduling`: what the kernel granted."""

    scheduling: str
    counts: Counts | None = None


def run(control: socket.socket, tuns: list[int], seed: int) -> None:
    """Until the control socket ends."""
    fabric = Fabric(len(tuns), random.Random(seed))
    scheduling = _real_time()
    numbers = {tun: number for number, tun in enumerate(tuns, 1)}
    by_number = dict(enumerate(tuns, 1))
    asked = control.fileno()
    sources = [asked, *tuns]
    gc.collect()
    gc.freeze()
    gc.disable()  # nothing here makes cycles
    while True:
        due = fabric.due_us
        wait = None if due is None else max(0.0, (due - now_us()) / 1e6)
        readable, _, _ = select.select(sources, (), (), wait)
        for source in readable:
            if source != asked:
                _read(fabric, numbers[source], source)
            elif not _obey(fabric, control, scheduling):
                return
        for to, packet in fabric.arrived(now_us()):
            try:
                os.write(by_number[to], packet)
                fabric.counts.delivered += 1
            except OSError:
                fabric.counts.full += 1


def now_us() -> int:
    """The lab's clock."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000


def _read(fabric: Fabric, number: int, tun: int) -> None:
    for _ in range(burst_packets_max):
        try:
            packet = os.read(tun, packet_bytes_max)
        except BlockingIOError:
            return
        fabric.take(number, packet, now_us())


_commands: Final = msgspec.msgpack.Decoder(Command)


def _obey(fabric: Fabric, control: socket.socket, scheduling: str) -> bool:
    """Do what the control socket asks; False at its end."""
    data = control.recv(control_bytes_max)
    if not data:
        return False
    command: Command = _commands.decode(data)
    told = Told(scheduling)
    match command:
        case Reshape():
            fabric.reshape(command.pairs, command.cable)
        case CutOnly():
            fabric.cut_only(command.pairs)
        case Tell():
            told = Told(scheduling, fabric.tell())
    control.send(msgspec.msgpack.encode(told))
    return True


def _real_time() -> str:
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(real_time_priority))
        return "real-time (SCHED_RR)"
    return "ordinary"


if __name__ == "__main__":
    run(socket.socket(fileno=int(sys.argv[1])), [int(each) for each in sys.argv[3:]], int(sys.argv[2]))
