"""The OpenAPI 3.1 document, made from the route table and the wire structs."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from querycache.doors.http_api.asked import Asked
from querycache.doors.http_api.route import Route, Text
from querycache.doors.http_api.wire import Failed

_REF = "#/components/schemas/{name}"
_TITLE = "querycache"
_ABOUT = (
    "The query caching layer for code search and RAG. Errors are "
    "{error: {name, message, remedy}}; every route refuses a foreign Host or Origin."
)


def document(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """The document of these routes and of those that serve it, its page, and MCP."""
    answers = [route.answers for route in routes if route.answers is not Text]
    bodies = [route.asks for route in routes if route.place == "body"]
    _, schemas = msgspec.json.schema_components([*answers, *bodies, Failed], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    paths["/openapi.json"] = {"get": _fixed("openapi", "This document.", "application/json")}
    paths["/docs"] = {"get": _fixed("docs", "This document as a page.", "text/html")}
    paths["/"] = {"get": {**_fixed("dashboard", "The dashboard.", "text/html"), "security": [{}]}}
    events = _fixed(
        "events",
        "Server-sent events: `history` once, each second a `sample` of the figures and a `page`"
        " with their words, and an `event` for each thing that happened; 503 while too many"
        " follow.",
        "text/event-stream",
    )
    paths["/events"] = {"get": events}
    content = {"application/json": {"schema": {"type": "object"}}}
    mcp = _fixed("mcp", "MCP over streamable HTTP.", "text/event-stream")
    paths["/mcp"] = {"post": {**mcp, "requestBody": {"required": True, "content": content}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": _TITLE, "version": version, "description": _ABOUT},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _operation(route: Route) -> dict[str, Any]:
    schema = {"type": "string"} if route.answers is Text else _reference(route.answers)
    answer = {
        "content": {route.media.partition(";")[0]: {"schema": schema}},
        "headers": {
            name: {"description": says, "schema": {"type": "string"}}
            for name, says in route.headers.items()
        },
    }
    said = {
        str(int(status)): {"description": status.phrase, **answer}
        for status in (HTTPStatus.OK, *route.statuses)
    }
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}{route.path.title()}".translate(_PLAIN),
        "summary": route.summary,
        "tags": [route.path.split("/")[1]],
        "responses": said,
    }
    if route.path.startswith("/health/"):
        operation["security"] = [{}]
    if route.place == "body":
        content = {"application/json": {"schema": _reference(route.asks)}}
        operation["requestBody"] = {"required": True, "content": content}
    elif parameters := _parameters(route.asks, route.place):
        operation["parameters"] = parameters
    return _with_failure(operation)


def _fixed(name: str, summary: str, kind: str) -> dict[str, Any]:
    """An operation without structs of its own."""
    answer: dict[str, Any] = {"description": "OK", "content": {kind: {}}}
    operation = {"operationId": name, "summary": summary, "tags": [name]}
    return _with_failure({**operation, "responses": {"200": answer}})


def _parameters(asks: type[Asked], place: str) -> list[dict[str, Any]]:
    _, schemas = msgspec.json.schema_components([asks], ref_template=_REF)
    schema = schemas[asks.__name__]
    required = schema.get("required", ())
    return [
        {
            "name": name,
            "in": place,
            "required": name in required,
            "schema": _inlined(field, schemas),
        }
        for name, field in schema["properties"].items()
    ]


def _inlined(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """A parameter's schema, without references to what no body names."""
    if "$ref" in schema:
        return schemas[schema["$ref"].rpartition("/")[2]]
    parts = {"anyOf": [_inlined(part, schemas) for part in schema.get("anyOf", ())]}
    return {**schema, **parts} if parts["anyOf"] else schema


def _reference(struct: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REF.format(name=struct.__name__)}


def _with_failure(operation: dict[str, Any]) -> dict[str, Any]:
    failed = {
        "description": "What went wrong, and what to do about it.",
        "content": {"application/json": {"schema": _reference(Failed)}},
    }
    return {**operation, "responses": {**operation["responses"], "default": failed}}


_PLAIN = str.maketrans("", "", "/{}_")
