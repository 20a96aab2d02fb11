"""Golden scripts' commands for tests in Python: what a claim about figures or estimators needs and text can't say."""

from tenure.base.instants import Instant
from tenure.raft.events import Event
from tenure.raft.messages import AnyMessage, Envelope
from tenure.raft.ready import Ready
from tests.raft import names
from tests.raft.script import Script
from tests.raft.stage import LINEAGE, Stage


def play(*lines: str) -> Script:
    """A stage after these commands; `more` goes on."""
    script = Script()
    more(script, *lines)
    return script


def more(script: Script, *lines: str) -> None:
    """Run further commands."""
    for line in lines:
        name, *words = line.split()
        getattr(script, f"do_{name}")(*words)


def frame(sender: str, to: str, message: AnyMessage) -> Envelope:
    """A message as it travels."""
    return Envelope(names.member_id(sender), names.member_id(to), LINEAGE, message)


def direct(stage: Stage, name: str, *events: Event, drained: bool = True, later_us: int = 0) -> Ready:
    """Step one member by hand; what follows is only looked at."""
    actor = stage.actors[name]
    actor.now = Instant(actor.now + later_us)
    return stage.raft(name).step(list(events), actor.now, drained)


def sent(stage: Stage, kind: type[AnyMessage], way: str = "*>*") -> list[AnyMessage]:
    """Messages of a type that are under way."""
    sender, to = way.split(">")
    return [
        item.message
        for item in stage.queue
        if isinstance(item, Envelope)
        and isinstance(item.message, kind)
        and sender in {"*", names.name_of(item.sender)}
        and to in {"*", names.name_of(item.to)}
    ]
