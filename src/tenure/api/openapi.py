"""`/openapi.json` (3.1) from the table of operations and the msgspec types. Imported when somebody asks."""

import re
from functools import lru_cache
from typing import Any

import msgspec

from tenure.api.routes import Operation
from tenure.leadership import limits
from tenure.wire import bodies

_NUMBER = {"type": "integer", "minimum": 0}
_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_QUERY: dict[str, dict[str, Any]] = {
    "consistency": {"schema": {"enum": ["linearizable", "stale"]}},
    "after": {"schema": {"type": "integer", "minimum": 0}},
    "wait_ms": {"schema": {"type": "integer", "minimum": 0, "maximum": limits.wait_ms_max}},
    "limit": {"schema": {"type": "integer", "minimum": 1}},
    "prefix": {"schema": {"type": "string"}},
    "verbose": {"schema": {"type": "string"}, "allowEmptyValue": True},
}


def _header(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "schema": {"type": kind}}


def _parameters(one: Operation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", one.path)
    ]
    found += [{"name": name, "in": "query", "required": False, **_QUERY[name]} for name in one.query]
    if one.is_change:
        found.append(_header(bodies.key_header, "string"))
        found.append(_header(bodies.client_header, "string"))
        found.append(_header(bodies.sequence_header, "integer"))
        found.append(_header(bodies.answered_header, "integer"))
    if one.path == "/fence-token/validate" and one.method == "GET":
        found.append(_header(bodies.token_header, "string"))
    if one.path == "/v1/events":
        found.append(_header("Last-Event-ID", "string"))
    return found


_AGE = {
    bodies.applied_header: {"description": "Of a stale answer: the log index it was built at", "schema": _NUMBER},
    bodies.lag_header: {"description": "Of a stale answer: how old it is at the most", "schema": _NUMBER},
}


def _responses(one: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, kind in one.answers.items():
        found[str(status)] = {"description": one.summary}
        if "consistency" in one.query or one.path == "/v1/events":
            found[str(status)]["headers"] = _AGE
        if kind is not None:
            found[str(status)]["content"] = {"application/json": {"schema": schemas[kind]}}
    problems = {400, 413, 429, 503, *one.refusals}
    if one.body is not None or one.query or "{" in one.path:
        problems.add(422)
    if not one.is_open:
        problems |= {401, 403}
    for status in sorted(problems - one.answers.keys()):
        found[str(status)] = {"description": "Problem", "content": {bodies.problem_type: {"schema": _PROBLEM}}}
    return found


@lru_cache(maxsize=1)
def document(operations: tuple[Operation, ...], version: str) -> bytes:
    """The description as JSON."""
    kinds = [kind for one in operations for kind in (one.body, *one.answers.values()) if kind is not None]
    unique = list(dict.fromkeys([bodies.Problem, *kinds]))
    shown, components = msgspec.json.schema_components(unique, ref_template="#/components/schemas/{name}")
    schemas = dict(zip(unique, shown, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        operation: dict[str, Any] = {
            "operationId": f"{one.method.lower()}{re.sub(r'[^a-z0-9]+', '_', one.path)}".rstrip("_"),
            "summary": one.summary,
            "parameters": _parameters(one),
            "responses": _responses(one, schemas),
        }
        if one.is_open:
            operation["security"] = []
        if one.body is not None:
            content: dict[str, Any] = {"schema": schemas[one.body]}
            if one.example is not None:
                content["example"] = msgspec.json.decode(one.example)
            operation["requestBody"] = {"required": True, "content": {"application/json": content}}
        paths.setdefault(one.path, {})[one.method.lower()] = operation
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "Tenure", "version": version, "summary": "Leader election with fencing tokens"},
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"secret": {"type": "http", "scheme": "bearer"}},
            },
            "security": [{}, {"secret": []}],
        }
    )
