"""The options of `tenure run`."""

import pytest

from tenure.agent import options
from tenure.base.errors import Invalid
from tenure.base.instants import MS, SECOND


def test_the_issue_s_command_line_is_understood() -> None:
    given: dict[str, str | bool | int | None] = {
        "endpoints": "http://127.0.0.1:8001,http://127.0.0.1:8002, http://127.0.0.1:8003",
        "node": "a",
        "ttl": "500ms",
        "priority": 3,
    }
    parsed = options.parse("orders", ["./worker", "-v"], given)
    assert parsed.endpoints == ("http://127.0.0.1:8001", "http://127.0.0.1:8002", "http://127.0.0.1:8003")
    assert parsed.ttl_us == 500 * MS
    assert parsed.priority == 3
    assert parsed.command == ("./worker", "-v")
    assert parsed.policy.restart == "no"


def test_the_defaults_look_at_this_machine() -> None:
    parsed = options.parse("orders", ["true"], {})
    assert parsed.endpoints == ("http://127.0.0.1:8368",)
    assert parsed.ttl_us == 3 * SECOND
    assert parsed.node


def test_the_environment_stands_below_the_command_line_and_above_the_defaults() -> None:
    environment = {
        "TENURE_TTL": "700ms",
        "TENURE_AGENT_ON_EXIT": "keep",
        "TENURE_AGENT_ONCE": "yes",
        "TENURE_NODE": "env",
    }
    parsed = options.parse("orders", ["true"], {"node": "flag", "ttl": None}, environment)
    assert (parsed.ttl_us, parsed.policy.on_exit, parsed.policy.once, parsed.node) == (700 * MS, "keep", True, "flag")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"ttl": "500"}, "ttl"),
        ({"ttl": "100ms"}, "ttl"),
        ({"ttl": "soon"}, "ttl"),
        ({"restart": "sometimes"}, "restart"),
        ({"priority": "high"}, "priority"),
        ({"node": "no spaces"}, "node"),
        ({"endpoints": " , "}, "endpoints"),
        ({"on-exit": "maybe"}, "on-exit"),
        ({"speed": "high"}, "speed"),
        ({"restart-limit": "-1"}, "restart-limit"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, str], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        options.parse("orders", ["true"], given)
    assert caught.value.field == field


def test_without_a_command_or_with_a_bad_name_nothing_starts() -> None:
    with pytest.raises(Invalid, match="command"):
        options.parse("orders", [], {})
    with pytest.raises(Invalid, match="election"):
        options.parse("Orders!", ["true"], {})


@pytest.mark.parametrize(
    ("text", "us"), [("250us", 250), ("1.5s", 1_500_000), ("2m", 120_000_000), ("1h", 3_600_000_000)]
)
def test_durations(text: str, us: int) -> None:
    assert options.duration(text, "x") == us


@pytest.mark.parametrize("digits", ["9" * 400, "9" * 5_000, "0." + "1" * 5_000])
def test_a_duration_of_endless_digits_is_none(digits: str) -> None:
    with pytest.raises(Invalid, match="needs a number and a unit") as caught:
        options.duration(f"{digits}s", "x")
    assert len(str(caught.value)) < 200


def test_every_option_says_what_it_is_for_and_how_the_environment_calls_it() -> None:
    for option in options.TABLE:
        assert option.help
        assert option.flag == f"--{option.name}"
        assert option.variable.startswith("TENURE_")
        assert not option.choices or option.default in option.choices


def test_an_unknown_variable_of_the_agent_is_named() -> None:
    with pytest.raises(Invalid, match="TENURE_AGENT_RESTRT"):
        options.parse("orders", ["true"], {}, {"TENURE_AGENT_RESTRT": "always", "TENURE_API": "a member's"})
