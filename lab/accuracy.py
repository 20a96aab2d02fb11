"""How far round trips through the switch are from what was asked for: ICMP echoes, answered by the far kernel.

The arrival is stamped by our kernel, so only the sender's own microseconds count against the switch.
"""

import os
import select
import socket
import struct
import time
from typing import Final

from lab.fabric import Pair
from lab.network import Network

_ECHO: Final = 8
_ECHO_REPLY: Final = 0
_SO_TIMESTAMPNS: Final = 35
every_s: Final = 0.005
lost_after_s: Final = 2.0


def errors_us(network: Network, pair: Pair, count: int) -> list[float]:
    """Measured minus wanted round trips of `count` echoes, sorted; those that are lost are left out."""
    near, far = (network.nodes[number - 1] for number in pair)
    wanted_us = network.weather.rtt_ms * 1_000
    found: list[float] = []
    with near.socket(socket.SOCK_RAW, socket.IPPROTO_ICMP) as echoes:
        echoes.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        echoes.setblocking(False)
        name = os.getpid() & 0xFFFF
        sent: dict[int, int] = {}
        for number in range(count):
            packet = _echo(name, number)
            sent[number] = time.time_ns()
            echoes.sendto(packet, (far.address, 0))
            _gather(echoes, name, sent, found, every_s)
        deadline = time.monotonic() + lost_after_s
        while sent and time.monotonic() < deadline:
            _gather(echoes, name, sent, found, every_s)
    return sorted(rtt_us - wanted_us for rtt_us in found)


def _gather(echoes: socket.socket, name: int, sent: dict[int, int], found: list[float], for_s: float) -> None:
    """Take answers for a while."""
    until = time.monotonic() + for_s
    while (left := until - time.monotonic()) > 0:
        if not select.select([echoes], (), (), left)[0]:
            return
        packet, stamps, _, _ = echoes.recvmsg(2_048, 256)
        body = packet[(packet[0] & 0x0F) * 4 :]
        kind, _, _, whose, number = struct.unpack("!BBHHH", body[:8])
        if kind != _ECHO_REPLY or whose != name or number not in sent or not stamps:
            continue
        seconds, nanos = struct.unpack("qq", stamps[0][2][:16])
        found.append((seconds * 1_000_000_000 + nanos - sent.pop(number)) / 1_000)


def _echo(name: int, number: int) -> bytes:
    body = struct.pack("!BBHHH", _ECHO, 0, 0, name, number) + b"tenure lab echo!"
    total = sum(struct.unpack(f"!{len(body) // 2}H", body))
    total = (total & 0xFFFF) + (total >> 16)
    total += total >> 16
    return struct.pack("!BBHHH", _ECHO, 0, ~total & 0xFFFF, name, number) + body[8:]
