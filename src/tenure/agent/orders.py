"""What agent and guardian say to each other: one message a packet, its first byte the kind. Loaded by the guardian."""

import struct

GO = b"G"  # Deadlines, then environment entries NUL-separated: start the application
ARM = b"A"  # Deadlines: a renewal was confirmed
TERMINATE = b"T"  # SIGTERM to the application's process group, and SIGCONT so that a stopped one hears it
KILL = b"K"  # SIGKILL to the tree, now

HELLO = b"H"  # text: the protections that stand, space-separated
READY = b"R"  # a stub stands: GO will cost one exec
EXECUTED = b"E"  # Number: the application's pid; its code runs now
CANNOT = b"C"  # Number: errno of the exec; an EXITED follows
STOPPED = b"S"  # somebody stopped the application
CONTINUED = b"U"  # and it goes on
TERMED = b"t"  # the guardian itself sent SIGTERM: no renewal came in time
EXITED = b"X"  # Number: wait status of the application. The whole tree is gone

_DEADLINES = struct.Struct("@QQ")
_NUMBER = struct.Struct("@q")
packet_bytes_max = 64 * 1024


def go(sigterm_at: int, sigkill_at: int, environment: list[bytes]) -> bytes:
    """Start the application under these deadlines, with these `NAME=value` added to its environment."""
    return GO + _DEADLINES.pack(sigterm_at, sigkill_at) + b"\0".join(environment)


def arm(sigterm_at: int, sigkill_at: int) -> bytes:
    """Move the deadlines."""
    return ARM + _DEADLINES.pack(sigterm_at, sigkill_at)


def deadlines(packet: bytes) -> tuple[int, int]:
    """(sigterm_at, sigkill_at) of a GO or an ARM."""
    sigterm_at, sigkill_at = _DEADLINES.unpack_from(packet, 1)
    return int(sigterm_at), int(sigkill_at)


def environment(packet: bytes) -> list[bytes]:
    """The entries of a GO."""
    rest = packet[1 + _DEADLINES.size :]
    return rest.split(b"\0") if rest else []


def numbered(kind: bytes, number: int) -> bytes:
    """A message with a number."""
    return kind + _NUMBER.pack(number)


def number(packet: bytes) -> int:
    """The number of a message."""
    return int(_NUMBER.unpack_from(packet, 1)[0])
