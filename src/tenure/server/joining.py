"""Asks a cluster to take this member in (`tenure serve --join`, ADR 0024), for as long as it takes.

Any member's API will do: what only the consensus leader can, it passes on. To be added twice is to be added once, the
id was drawn with the data directory, and the answer says with what the cluster was founded: so a crash at any point and
a new start go on where they stood. Who can't be reached is asked again soon, growing slower; what is refused (a name in
use) is told and asked again slowly, for an operator may mend it meanwhile.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from msgspec import Struct

from tenure.base.errors import TenureError
from tenure.client.errors import NoQuorum, OverLimit, TimedOut, Unreachable
from tenure.client.http import Client
from tenure.client.members import change
from tenure.leadership.engine import AddMember, MembersView

attempt_s: Final = 5.0
"""How long one try goes from endpoint to endpoint."""


class Pace(Struct, frozen=True):
    """Seconds between tries: while nobody can be reached growing from `least` to `most`; after a refusal `refused`, for
    whoever mends what was refused doesn't want to wait for long either.
    """

    least: float = 0.25
    most: float = 5.0
    refused: float = 5.0


default_pace: Final = Pace()
_PASSING: Final = (Unreachable, NoQuorum, TimedOut, OverLimit)


class Joiner:
    """Asks in a thread of its own; `joined` and `hindered` are called in the loop, `joined` once."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        endpoints: tuple[str, ...],
        secret: Callable[[], str | None],
        request: AddMember,
        joined: Callable[[MembersView], None],
        hindered: Callable[[str], None],
        pace: Pace = default_pace,
    ) -> None:
        """`secret` is asked before each try: it may be what an operator mends."""
        self._pace = pace
        self._loop = loop
        self._endpoints = endpoints
        self._secret = secret
        self._request = request
        self._joined = joined
        self._hindered = hindered
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tenure-join", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """No more tries; one that is under way ends by itself, unheard."""
        self._stop.set()

    def _run(self) -> None:
        pace = self._pace
        pause_s = pace.least
        while not self._stop.is_set():
            try:
                with Client(self._endpoints, secret=self._secret(), timeout=attempt_s) as client:
                    view = change(client, self._request)
            except TenureError as error:
                self._tell(self._hindered, str(error))
                passing = isinstance(error, _PASSING)
                self._stop.wait(pause_s if passing else pace.refused)
                pause_s = min(2 * pause_s, pace.most) if passing else pace.least
            else:
                self._tell(self._joined, view)
                return

    def _tell(self, hear: Callable[..., None], said: object) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._heard, hear, said)

    def _heard(self, hear: Callable[..., None], said: object) -> None:
        if not self._stop.is_set():
            hear(said)
