"""SKELETON, signatures only: being written now. Code against these."""

from dataclasses import dataclass

from tenure.base.ids import ConsensusTerm, LogIndex, Nonce, SessionId
from tenure.leadership.commands import AnyBody, UnknownCommand
from tenure.leadership.engine import (
    AnyRequest,
    AnyResult,
    Compacted,
    ElectionView,
    HistoryPage,
    KvKeys,
    KvValue,
    NodeView,
    Refused,
    SessionView,
    Transition,
    Validate,
    Validated,
)
from tenure.leadership.hints import Hints
from tenure.leadership.state import Holder

__all__ = ["Applied", "Machine", "UnknownCommand"]


@dataclass(frozen=True, slots=True)
class Applied:
    """What a command did. `body` is the command, for the steward."""

    result: AnyResult
    transitions: tuple[Transition, ...]
    body: AnyBody


class Machine:
    """The replicated state machine. `stamp`: first term that may be issued (`tokens.founding_stamp`, P2.1)."""

    @classmethod
    def founded(cls, lineage: Nonce, stamp: int) -> "Machine":
        """The state at founding."""
        raise NotImplementedError

    @classmethod
    def restore(cls, data: bytes) -> "Machine":
        """The state in a snapshot; `UnknownCommand` if its format is unknown."""
        raise NotImplementedError

    def snapshot(self) -> bytes:
        """Everything."""
        raise NotImplementedError

    def hash(self) -> str:
        """32 hex digits; equal states, equal hashes (S12)."""
        raise NotImplementedError

    def apply(self, index: LogIndex, entry_term: ConsensusTerm, data: bytes) -> Applied:
        """Apply one command."""
        raise NotImplementedError

    def read(self, request: AnyRequest, hints: Hints | None = None) -> AnyResult:
        """Answer any read but `Status` and `Keepalive`."""
        raise NotImplementedError

    def session(self, session: SessionId) -> SessionView | Refused:
        raise NotImplementedError

    def election(self, name: str, hints: Hints | None = None) -> ElectionView | Refused:
        raise NotImplementedError

    def elections(self, hints: Hints | None = None) -> tuple[ElectionView, ...]:
        raise NotImplementedError

    def nodes(self, hints: Hints | None = None) -> dict[str, NodeView]:
        raise NotImplementedError

    def holder(self, election: str) -> Holder | None:
        """Who holds an election: `.session .node .term .owner .lease`."""
        raise NotImplementedError

    def kv_get(self, key: str, hints: Hints | None = None) -> KvValue | Refused:
        raise NotImplementedError

    def kv_list(self, prefix: str, limit: int) -> KvKeys:
        raise NotImplementedError

    def validate(self, request: Validate) -> Validated:
        raise NotImplementedError

    def history(self, election: str, limit: int) -> HistoryPage | Refused:
        raise NotImplementedError

    def transitions_after(self, number: int) -> tuple[Transition, ...] | Compacted:
        raise NotImplementedError

    @property
    def last_transition(self) -> int:
        raise NotImplementedError
