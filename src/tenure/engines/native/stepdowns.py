"""Stepdowns of elections that have begun and wait for their successor, at the member that was asked."""

from tenure.leadership.engine import Stepped
from tenure.leadership.machine import Machine


class Stepdowns:
    """Keys of waiting requests by election."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[str, list[int]] = {}

    def elections(self) -> list[str]:
        """Elections that somebody waits for."""
        return list(self._waiting)

    def keys(self, election: str) -> list[int]:
        """Who waits for this election's successor."""
        return list(self._waiting.get(election, ()))

    def wait(self, election: str | None, key: int) -> None:
        """Begin to wait."""
        assert election is not None
        self._waiting.setdefault(election, []).append(key)

    def leave(self, election: str | None, key: int) -> None:
        """Wait no longer."""
        assert election is not None
        keys = self._waiting.get(election)
        if keys is not None and key in keys:
            keys.remove(key)
            if not keys:
                del self._waiting[election]

    def outcome(self, machine: Machine, begun: Stepped) -> Stepped | None:
        """The end of a stepdown as applied here, None while nobody was granted a later term.

        `begun.term` is the term that was asked to end.
        """
        assert begun.election is not None
        holder = machine.holder(begun.election)
        if holder is None or begun.term is None or holder.term <= begun.term:
            return None
        return Stepped(begun.election, holder.node, holder.term, "done", begun.from_)
