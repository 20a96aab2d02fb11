"""The handshake of a peer connection, sans-I/O: both ends prove the cluster secret to each other, then say who they
are.

    dialer   → Introduce(hello)          acceptor → Welcome(hello, proof)
    dialer   → Proof(told, proof)        acceptor → Taken, or Reject(reason) at any point

A proof is an HMAC-SHA256 under the cluster secret over the role and both hellos as they were sent; these hold names,
ids, lineages, boots and a fresh nonce of each side, so a proof is good for one connection, one direction and these
two only. Without a secret proofs are empty and nothing is proved; the server's configuration allows that on loopback
only. A secret proves who may take part; it does not hide or sign the frames that follow (certificates do).
"""

import hmac
from collections.abc import Callable
from hashlib import sha256
from typing import Literal, TypeAlias

import msgspec

from tenure.base.ids import BatchNumber, MemberId
from tenure.wire.frames import Hello, Introduce, Proof, Reject, Welcome, decode_hello, encode_hello

Judge: TypeAlias = Callable[[Hello], str | None]
Identify: TypeAlias = Callable[[MemberId | None], Hello]
"""Our own hello towards a member (`told` is about that one), or towards one that is not known yet."""


def prove(
    secret: bytes | None, role: Literal["dialer", "acceptor"], dialer: bytes, acceptor: bytes, told: BatchNumber
) -> bytes:
    """The proof of `role` over both hellos; empty without a secret."""
    if secret is None:
        return b""
    text = b"tenure peer 1 %s %d %s %s" % (role.encode(), told, sha256(dialer).digest(), sha256(acceptor).digest())
    return hmac.digest(secret, text, "sha256")


def _mismatch(secret: bytes | None, proof: bytes, expected: bytes, who: str) -> str | None:
    if hmac.compare_digest(proof, expected):
        return None
    if not proof:
        return f"{who} shows no proof of the cluster secret"
    if secret is None:
        return f"{who} proves a cluster secret, but this member was started without one"
    return f"{who} was started with another cluster secret"


def _same(mine: Hello, other: Hello) -> str | None:
    if mine.member != other.member:
        return None
    if mine.boot == other.boot:
        return "this address leads back to this member itself"
    return f"two processes show the member id {mine.member}: a data directory was copied"


class Dialing:
    """The dialer's half."""

    __slots__ = ("_identify", "_mine", "_nonce", "_secret")

    def __init__(self, identify: Identify, secret: bytes | None, nonce: str) -> None:
        self._identify = identify
        self._secret = secret
        self._nonce = nonce
        self._mine = encode_hello(msgspec.structs.replace(identify(None), nonce=nonce))

    def introduce(self) -> Introduce:
        """What to say first."""
        return Introduce(self._mine)

    def welcomed(self, welcome: Welcome, judge: Judge) -> tuple[Hello, Proof] | Reject:
        """Check the acceptor; the answer is our proof, or why not. Raises `BadFrame`."""
        other = decode_hello(welcome.hello)
        expected = prove(self._secret, "acceptor", self._mine, welcome.hello, other.told)
        mine = self._identify(other.member)
        wrong = _mismatch(self._secret, welcome.proof, expected, other.name) or _same(mine, other) or judge(other)
        if wrong is not None:
            return Reject(wrong)
        return other, Proof(mine.told, prove(self._secret, "dialer", self._mine, welcome.hello, mine.told))


class Accepting:
    """The acceptor's half, from the dialer's introduction on. Raises `BadFrame` when that can't be read."""

    __slots__ = ("_mine", "_secret", "_theirs", "hello", "welcome")

    def __init__(self, introduce: Introduce, identify: Identify, secret: bytes | None, nonce: str) -> None:
        self.hello = decode_hello(introduce.hello)
        self._secret = secret
        self._theirs = introduce.hello
        mine = msgspec.structs.replace(identify(self.hello.member), nonce=nonce)
        self._mine = encode_hello(mine)
        self.welcome = Welcome(self._mine, prove(secret, "acceptor", self._theirs, self._mine, mine.told))

    def proved(self, proof: Proof, judge: Judge, me: Hello) -> Hello | Reject:
        """Check the dialer: its hello with what it told, or why not. Only who has proved itself is judged."""
        expected = prove(self._secret, "dialer", self._theirs, self._mine, proof.told)
        wrong = _mismatch(self._secret, proof.proof, expected, self.hello.name) or _same(me, self.hello)
        wrong = wrong or judge(self.hello)
        if wrong is not None:
            return Reject(wrong)
        return msgspec.structs.replace(self.hello, told=proof.told)
