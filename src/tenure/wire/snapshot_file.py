"""The file of a snapshot, and its bytes on the way: sans-I/O writer and reader.

    tenure-snapshot 1                             the format, a line that says what this is
    {"lineage":[…],"index":…,…}                   a line of JSON: `Header`
    length (4 bytes, big-endian), bytes …         the state's own bytes in chunks; a length of 0 ends them
    {"bytes":…,"sha256":"…"}                      a line of JSON: `Trailer`, over everything before it

So the beginning and the end can be read by people, a file that was cut off is told from one that was changed, and
neither side ever holds more than a chunk.
"""

import hashlib
from collections.abc import Iterable, Iterator
from struct import Struct as Layout
from typing import Final, Literal, TypeVar

import msgspec
from msgspec import Struct

from tenure.base.errors import TenureError
from tenure.base.ids import ConsensusTerm, LogIndex, Nonce
from tenure.leadership.members import MemberSeat

format_newest: Final = 1
media_type: Final = "application/vnd.tenure.snapshot"
chunk_bytes_max: Final = 16 * 1024 * 1024
line_bytes_max: Final = 64 * 1024
_MAGIC: Final = b"tenure-snapshot "
_LENGTH: Final = Layout(">I")


class Header(Struct, frozen=True):
    """What the snapshot is of. `taken_at` is RFC 3339; `consistency` tells whether the member had asked a quorum."""

    lineage: tuple[Nonce, ...]
    index: LogIndex
    term: ConsensusTerm
    feature: int
    members: tuple[MemberSeat, ...]
    taken_by: str
    taken_at: str
    consistency: Literal["linearizable", "stale"]


class Trailer(Struct, frozen=True):
    """`bytes` come before it, and this is their hash."""

    bytes: int
    sha256: str


class BadSnapshot(TenureError):
    """The file can't be used."""

    def __init__(self, what: Literal["foreign", "newer", "cut_off", "damaged"], text: str) -> None:
        super().__init__(text)
        self.what = what


def written(header: Header, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The whole file, piece by piece."""
    digest = hashlib.sha256()
    size = 0
    head = _MAGIC + b"%d\n" % format_newest + msgspec.json.encode(header) + b"\n"
    for part in _framed(head, chunks):
        digest.update(part)
        size += len(part)
        yield part
    yield msgspec.json.encode(Trailer(size, digest.hexdigest())) + b"\n"


def _framed(head: bytes, chunks: Iterable[bytes]) -> Iterator[bytes]:
    yield head
    for chunk in chunks:
        if chunk:
            yield _LENGTH.pack(len(chunk)) + chunk
    yield _LENGTH.pack(0)


class Reader:
    """Takes the bytes as they come. `header` is there once it was read, `trailer` once all was, and found to be right.

    Raises `BadSnapshot`; then nothing of the file may be believed.
    """

    __slots__ = ("_digest", "_held", "_size", "_state", "header", "trailer")

    def __init__(self) -> None:
        self.header: Header | None = None
        self.trailer: Trailer | None = None
        self._held = bytearray()
        self._digest = hashlib.sha256()
        self._size = 0
        self._state: Literal["magic", "header", "chunks", "trailer", "done"] = "magic"

    def feed(self, data: bytes) -> list[bytes]:
        """The state's bytes that are complete now."""
        self._held += data
        chunks: list[bytes] = []
        while self._advance(chunks):
            pass
        return chunks

    def finish(self) -> tuple[Header, Trailer]:
        """All bytes were fed."""
        if self.header is None or self.trailer is None:
            raise BadSnapshot(
                "cut_off", f"the snapshot ends after {self._size + len(self._held)} bytes, before its end"
            )
        if self._held:
            raise BadSnapshot("damaged", f"{len(self._held)} bytes stand behind the snapshot's end")
        return self.header, self.trailer

    def _advance(self, chunks: list[bytes]) -> bool:
        match self._state:
            case "magic":
                return self._magic()
            case "header":
                line = self._line()
                if line is None:
                    return False
                self.header = _json(line, Header)
                self._state = "chunks"
                return True
            case "chunks":
                return self._chunk(chunks)
            case "trailer":
                return self._end()
            case "done":
                return False

    def _magic(self) -> bool:
        held = bytes(self._held[: len(_MAGIC)])
        if held != _MAGIC[: len(held)]:
            raise BadSnapshot("foreign", "this is no snapshot of Tenure's")
        line = self._line()
        if line is None:
            return False
        digits = line[len(_MAGIC) :]
        if not digits.isdigit() or len(digits) > 6:
            raise BadSnapshot("foreign", "this is no snapshot of Tenure's")
        if int(digits) != format_newest:
            text = f"snapshot file format {int(digits)}, this Tenure knows {format_newest}: use the newer Tenure"
            raise BadSnapshot("newer", text)
        self._state = "header"
        return True

    def _line(self, *, counts: bool = True) -> bytes | None:
        end = self._held.find(b"\n")
        if end < 0:
            if len(self._held) > line_bytes_max:
                raise BadSnapshot("damaged", f"a line of more than {line_bytes_max} bytes")
            return None
        line = bytes(self._held[:end])
        self._drop(end + 1, counts=counts)
        return line

    def _drop(self, size: int, *, counts: bool = True) -> None:
        if counts:
            with memoryview(self._held) as view, view[:size] as part:
                self._digest.update(part)
            self._size += size
        del self._held[:size]

    def _chunk(self, chunks: list[bytes]) -> bool:
        if len(self._held) < 4:
            return False
        length: int = _LENGTH.unpack_from(self._held)[0]
        if length > chunk_bytes_max:
            raise BadSnapshot(
                "damaged", f"a chunk of {length} bytes is announced, at most {chunk_bytes_max} are written"
            )
        if len(self._held) < 4 + length:
            return False
        if length:
            chunks.append(bytes(self._held[4 : 4 + length]))
        else:
            self._state = "trailer"
        self._drop(4 + length)
        return True

    def _end(self) -> bool:
        line = self._line(counts=False)
        if line is None:
            return False
        trailer = _json(line, Trailer)
        found = Trailer(self._size, self._digest.hexdigest())
        if trailer != found:
            raise BadSnapshot(
                "damaged", f"the snapshot was changed: {found.sha256} is the hash, {trailer.sha256} is said"
            )
        self.trailer = trailer
        self._state = "done"
        return False


T = TypeVar("T", Header, Trailer)


def _json(line: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadSnapshot("damaged", f"the snapshot's {kind.__name__.lower()} can't be read: {error}") from None
