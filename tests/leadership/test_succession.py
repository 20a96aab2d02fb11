"""The grant that rides right behind a release (`Steward.succession`)."""

from tenure.base.ids import NodeId, SessionId, Term
from tenure.leadership import commands, engine
from tenure.leadership.choosing import HoldDownSettings
from tenure.leadership.commands import Grant, Pause, Release, Stepdown
from tenure.leadership.engine import Refused
from tenure.leadership.offices import OfficeSettings
from tenure.leadership.steward import StewardSettings
from tests.leadership.stage import ORDERS, Stage, decision


def three(settings: StewardSettings | None = None) -> tuple[Stage, SessionId]:
    """`a` holds, `b` and `c` wait; a's session."""
    stage = Stage(settings)
    a = stage.stand("a")
    stage.stand("b")
    stage.stand("c")
    assert stage.holder() == "a"
    return stage, a


def behind(stage: Stage, session: SessionId, term: int | None = None, *, withdraw: bool = True) -> bytes | None:
    """What goes into the log behind this session's release."""
    asked = engine.Release(session, ORDERS, Term(term if term is not None else stage.term_of()), withdraw)
    return stage.steward.succession(asked, stage.now, stage.wall_ms)


def test_the_office_is_vacant_for_no_commit() -> None:
    stage, a = three()
    term = stage.term_of()
    data = behind(stage, a)
    assert data is not None
    stage.do(Release(a, ORDERS, term, True))
    assert stage.decide() == []  # the grant is under way
    stage.apply(data)
    assert (stage.holder(), stage.term_of()) == ("b", term + 1)
    assert stage.settle() == []


def test_where_the_release_does_nothing_the_grant_does_nothing() -> None:
    """P3.4: it names the vacancy behind just that term."""
    stage, a = three()
    term = stage.term_of()
    data = behind(stage, a)
    assert data is not None
    assert isinstance(stage.apply(data), Refused)
    assert (stage.holder(), stage.term_of()) == ("a", term)
    stage.do(Release(a, ORDERS, term, True))
    (grant,) = stage.settle()
    assert isinstance(grant, Grant)
    assert stage.holder() == "b"


def test_a_grant_that_the_log_refused_is_made_again() -> None:
    """A transfer of the consensus leader refuses proposals, say."""
    stage, a = three()
    data = behind(stage, a)
    assert data is not None
    stage.steward.dropped(data)
    stage.do(Release(a, ORDERS, stage.term_of(), True))
    stage.after(stage.settings.retry_ms)
    stage.settle()
    assert stage.holder() == "b"


def test_a_repeated_release_gets_no_second_grant() -> None:
    """P9.1: it may come twice before the first copy is applied."""
    stage, a = three()
    assert behind(stage, a) is not None
    assert behind(stage, a) is None


def test_only_the_release_of_just_this_holding_makes_room() -> None:
    """Late ones come, and those of others."""
    stage, a = three()
    b = next(session for session in stage.election().candidates if session != a)
    assert behind(stage, a, stage.term_of() - 1) is None
    assert behind(stage, b) is None
    stage.do(Pause(ORDERS, True))
    assert behind(stage, a) is None


def test_a_switchover_goes_to_whom_it_names() -> None:
    """As in the decision after the release."""
    stage, a = three()
    stage.do(Stepdown(ORDERS, NodeId("c"), None, 1_000, False))
    data = behind(stage, a)
    assert data is not None
    stage.do(Release(a, ORDERS, stage.term_of(), True))
    stage.apply(data)
    assert stage.holder() == "c"


def test_who_gives_back_alone_may_be_the_next_again() -> None:
    """That is known only when it is done."""
    alone = Stage()
    assert behind(alone, alone.stand("a"), withdraw=False) is None


def behind_after_a_bad_end(free_ends: int) -> bytes | None:
    """`b` ran out while it held, and stands again; now `a` gives back."""
    hold_down = HoldDownSettings(free_ends=free_ends, first_ms=60_000, alone_ms=0)
    stage = Stage(StewardSettings(OfficeSettings(hold_down=hold_down)))
    b = stage.stand("b")
    a = stage.stand("a")
    stage.keep_all(a, until_ms=1_500)
    assert stage.holder() == "a"
    assert b not in stage.election().candidates
    stage.stand("b")
    return behind(stage, a)


def test_a_node_that_is_held_down_waits_for_the_decision_after_the_release() -> None:
    """Whoever gave back may be the better one."""
    assert behind_after_a_bad_end(free_ends=2) is not None
    assert behind_after_a_bad_end(free_ends=0) is None


def test_a_new_steward_says_nothing_before_it_serves() -> None:
    """What lies before its no-op may still change everything."""
    stage, a = three()
    stage.take_over(serving=False)
    assert behind(stage, a) is None


def test_it_is_decided_in_this_consensus_term() -> None:
    """P3.5."""
    stage, a = three()
    data = behind(stage, a)
    assert data is not None
    assert decision(data).decided == stage.term
    assert commands.decode(data).at_ms == stage.wall_ms
