"""`/openapi.json`: valid OpenAPI 3.1, and true: whatever is asked is answered with a status that it names."""

import json
import re
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator

from tenure.api.routes import OPERATIONS, Operation
from tests.api.scripted import SESSION, Server, serving


def path_of(operation: Operation) -> str:
    names = {"session": SESSION, "election": "orders"}
    return re.sub(r"\{(\w+)\}", lambda part: names.get(part[1], "key"), operation.path)


def test_the_description_is_valid_openapi(server: Server) -> None:
    described = server.ask("GET", "/openapi.json").json
    assert described["openapi"].startswith("3.1")
    assert list(OpenAPIV31SpecValidator(described).iter_errors()) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def bodies_of(operation: Operation) -> st.SearchStrategy[bytes]:
    """Its example with some fields replaced, left out or added; any JSON; any bytes."""
    example: dict[str, Any] = json.loads(operation.example or b"{}")
    names = st.sampled_from([*example, "more"])
    changed = st.builds(
        lambda new, gone: {name: value for name, value in {**example, **new}.items() if name not in gone},
        st.dictionaries(names, json_values, max_size=2), st.sets(names, max_size=2),
    )  # fmt: skip
    return (changed | json_values).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)


@pytest.mark.parametrize(
    "operation", [one for one in OPERATIONS if one.body is not None], ids=lambda one: f"{one.method} {one.path}"
)
def test_whatever_is_sent_is_answered_as_described(operation: Operation) -> None:
    with serving() as server:
        described = server.ask("GET", "/openapi.json").json["paths"][operation.path][operation.method.lower()]
        path = path_of(operation)

        @settings(max_examples=40, deadline=None)
        @given(bodies_of(operation), st.booleans())
        def ask(body: bytes, cold: bool) -> None:
            answered = server.ask(operation.method, path, body, cold=cold)
            content = described["responses"][str(answered.status)].get("content", {})
            assert answered.status < 500
            assert answered.headers["content-type"] in content
            if answered.status >= 400:
                assert answered.json["status"] == answered.status

        ask()


def test_a_query_is_never_our_mistake(server: Server) -> None:
    @settings(max_examples=50, deadline=None)
    @given(
        st.sampled_from(["/status", "/v1/kv", "/v1/elections/orders", "/v1/events"]),
        st.sampled_from(["limit", "after", "consistency", "prefix", "wait_ms"]),
        st.text(max_size=30),
    )
    def ask(path: str, name: str, value: str) -> None:
        assert server.ask("HEAD", f"{path}?{name}={quote(value)}").status < 500

    ask()
