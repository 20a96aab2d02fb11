"""One stream to one endpoint: a non-blocking socket, TLS if asked for, and the WebSocket protocol above it, sans-I/O.

    connecting ──► securing (https only) ──► upgrading ──► open ──► broken

The thread watches `fileno()` for `wants()` and calls `ready()`; whatever goes wrong is one `LinkBroken` that says what.
"""

import errno
import logging
import selectors
import socket
import ssl
from contextlib import suppress
from typing import Any, Final, Literal

import msgspec
from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from tenure.client.endpoints import Address
from tenure.client.known import Known, header
from tenure.client.messages import subprotocol
from tenure.wire.bodies import Problem

SocketAddress = tuple[socket.AddressFamily, Any]
message_bytes_max: Final = 4 << 20
unsent_bytes_max: Final = 1 << 20
_receive_bytes: Final = 64 << 10
_BLOCKED: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
# Outside the tree of loggers: nothing may log on the renewal path, whatever the application's level is.
_silent: Final = logging.Logger("tenure.client.link", logging.CRITICAL + 1)  # noqa: LOG001


class LinkBroken(Exception):
    """The stream is over. `denied` if the other side refused our credential."""

    def __init__(self, reason: str, *, denied: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.denied = denied


class Link:
    """See the module."""

    def __init__(
        self, address: Address, where: SocketAddress, secret: str | None, tls: ssl.SSLContext | None, known: Known
    ) -> None:
        self._known = known
        self.endpoint: Final = address.url
        self.state: Literal["connecting", "securing", "upgrading", "open"] = "connecting"
        self._address = address
        self._tls = tls
        self._unsent = bytearray()
        self._parts: list[bytes] = []
        self._wants_write = True
        self._ended = False
        scheme = "wss" if address.secure else "ws"
        uri = parse_uri(f"{scheme}://{address.url.split('://', 1)[1]}/v1/stream")
        self._protocol = ClientProtocol(
            uri, subprotocols=[Subprotocol(subprotocol)], max_size=message_bytes_max, logger=_silent
        )
        self._request = self._protocol.connect()
        self._request.headers[header] = known.said()
        if secret is not None:
            self._request.headers["Authorization"] = f"Bearer {secret}"
        self._socket: socket.socket = socket.socket(where[0], socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._socket.connect(where[1])
        except _BLOCKED:
            pass
        except OSError as error:
            self._socket.close()
            raise LinkBroken(f"{self.endpoint}: {error.strerror or error}") from error

    def fileno(self) -> int:
        """The socket's."""
        return self._socket.fileno()

    def wants(self) -> int:
        """What to watch the socket for."""
        write = self.state == "connecting" or self._wants_write or bool(self._unsent)
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if write else 0)

    def ready(self) -> list[bytes]:
        """Go on as far as the socket lets us; returns the messages that came."""
        try:
            if self.state == "connecting" and not self._connect():
                return []
            if self.state == "securing" and not self._secure():
                return []
            messages = self._receive()
            self._flush()
        except OSError as error:
            raise LinkBroken(f"{self.endpoint}: {error.strerror or error}") from error
        return messages

    def send(self, frames: tuple[bytes, ...]) -> None:
        """Send messages, as much as the socket takes now, the rest when it wants."""
        if self._protocol.state is not State.OPEN:
            raise LinkBroken(f"{self.endpoint}: the member closed the stream")
        for frame in frames:
            self._protocol.send_text(frame)
        self._unsent += b"".join(self._protocol.data_to_send())
        if len(self._unsent) > unsent_bytes_max:
            raise LinkBroken(f"{self.endpoint}: takes nothing any more")
        try:
            self._flush()
        except OSError as error:
            raise LinkBroken(f"{self.endpoint}: {error.strerror or error}") from error

    def close(self, reason: str) -> None:
        """Say goodbye if it can be said at once, then close. A closing frame tells the member that we haven't died."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(CloseCode.NORMAL_CLOSURE, reason)
            self._unsent += b"".join(self._protocol.data_to_send())
            with suppress(OSError):  # it was broken already
                self._flush()
        self._socket.close()

    def abandon(self) -> None:
        """Close the descriptor and say nothing: in a forked child the connection is the parent's."""
        self._socket.close()

    def _connect(self) -> bool:
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, f"can't connect ({errno.errorcode.get(error, error)})")
        try:
            self._socket.getpeername()
        except OSError:
            return False  # still on its way
        if self._tls is not None:
            self._socket = self._tls.wrap_socket(
                self._socket, server_hostname=self._address.host, do_handshake_on_connect=False
            )
            self.state = "securing"
        else:
            self._upgrade()
        return True

    def _secure(self) -> bool:
        assert isinstance(self._socket, ssl.SSLSocket), "secured means wrapped"
        self._wants_write = False
        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLWantWriteError:
            self._wants_write = True
            return False
        self._upgrade()
        return True

    def _upgrade(self) -> None:
        self.state = "upgrading"
        self._wants_write = False
        self._protocol.send_request(self._request)
        self._unsent += b"".join(self._protocol.data_to_send())
        self._flush()

    def _flush(self) -> None:
        while self._unsent:
            try:
                sent = self._socket.send(self._unsent)
            except _BLOCKED:
                return
            del self._unsent[:sent]

    def _receive(self) -> list[bytes]:
        messages: list[bytes] = []
        while not self._ended:
            try:
                data = self._socket.recv(_receive_bytes)
            except _BLOCKED:
                break
            if data:
                self._protocol.receive_data(data)
            else:
                self._ended = True
                self._protocol.receive_eof()
            for event in self._protocol.events_received():
                if isinstance(event, Response):
                    self._upgraded(event)
                elif isinstance(event, Frame):
                    self._frame(event, messages)
            if self._protocol.parser_exc is not None:
                raise LinkBroken(f"{self.endpoint}: {self._protocol.parser_exc}")
        # Pongs, and the answer to a closing frame.
        self._unsent += b"".join(self._protocol.data_to_send())
        if self._ended and not messages:
            raise LinkBroken(f"{self.endpoint}: the connection was closed")
        return messages  # what came with the end counts; the next read finds the end again

    def _upgraded(self, response: Response) -> None:
        problem = self._protocol.handshake_exc
        if problem is not None:
            denied = response.status_code in {401, 403}
            raise LinkBroken(f"{self.endpoint}: answered {response.status_code}: {_text(response)}", denied=denied)
        why = self._known.hear(response.headers.get(header))
        if why is not None:
            raise LinkBroken(f"{self.endpoint}: {why}")
        self.state = "open"

    def _frame(self, frame: Frame, messages: list[bytes]) -> None:
        if frame.opcode in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
            self._parts.append(bytes(frame.data))
            if frame.fin:
                messages.append(b"".join(self._parts))
                self._parts.clear()
        elif frame.opcode is Opcode.CLOSE:
            raise LinkBroken(f"{self.endpoint}: the member closed the stream: {self._protocol.close_reason or 'bye'}")


def _text(response: Response) -> str:
    """A problem's own words, else the beginning of whatever stands there."""
    body = bytes(response.body or b"")
    with suppress(msgspec.MsgspecError):
        return msgspec.json.decode(body, type=Problem).detail
    return body[:300].decode("utf-8", "replace").strip() or response.reason_phrase
