"""ADR 0008: `HotProtocol` stands on parts of uvicorn that uvicorn doesn't promise. When one changes, this says which.

What these parts do is held by all the other tests here, which run on a real uvicorn; here is what they look like, so
that an upgrade that would only be slower, or wrong once in a while, fails at once and names what to look at.
"""

import inspect
from importlib.metadata import version

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from tenure.api.hot import HotProtocol

OVERRIDDEN = {
    "__init__": ["self", "config", "server_state", "app_state", "_loop"],
    "connection_made": ["self", "transport"],
    "connection_lost": ["self", "exc"],
    "data_received": ["self", "data"],
    "on_message_begin": ["self"],
    "on_headers_complete": ["self"],
    "on_body": ["self", "body"],
    "on_message_complete": ["self"],
    "pause_writing": ["self"],
    "resume_writing": ["self"],
    "shutdown": ["self"],
    "_start_asgi_task": ["self", "cycle", "app"],
}
CALLED = {"_unset_keepalive_if_required": ["self"], "_should_upgrade": ["self"]}
FIELDS = {"connections", "cycle", "flow", "headers", "logger", "loop", "parser", "pipeline", "transport", "url"}
CYCLE_FIELDS = {"more_body", "response_complete", "response_started"}


def _assigned(kind: type) -> set[str]:
    return {line.split("=")[0].split(":")[0].strip().removeprefix("self.")
            for line in inspect.getsource(kind).splitlines() if line.strip().startswith("self.")}  # fmt: skip


def test_uvicorn_is_the_release_series_that_the_hot_protocol_was_written_against() -> None:
    assert version("uvicorn").split(".")[:2] == ["0", "54"], "read ADR 0008, then uvicorn's httptools_impl.py"


def test_what_the_hot_protocol_overrides_and_calls_is_there_in_the_same_shape() -> None:
    for name, parameters in (OVERRIDDEN | CALLED).items():
        found = list(inspect.signature(getattr(HttpToolsProtocol, name)).parameters)
        assert found == parameters, name
    overridden = {name for name in vars(HotProtocol) if name in vars(HttpToolsProtocol)} - {"__doc__", "__module__"}
    assert overridden == OVERRIDDEN.keys()


def test_the_fields_that_it_reads_are_those_of_uvicorn() -> None:
    assert _assigned(HttpToolsProtocol) >= FIELDS
    assert _assigned(RequestResponseCycle) >= CYCLE_FIELDS


def test_every_request_is_read_by_one_parser_and_every_cold_one_started_where_we_can_hold_it_back() -> None:
    source = inspect.getsource(HttpToolsProtocol)
    assert source.count("self.parser.feed_data(") == 1  # in data_received, which is ours
    assert source.count("create_task(") == inspect.getsource(HttpToolsProtocol._start_asgi_task).count("create_task(")
