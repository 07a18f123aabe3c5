"""The HTTP part of a service as OpenAPI 3.1 describes it."""

from collections.abc import Iterable
from typing import Any


def document(title: str, version: str, outputs: int, static: Iterable[str] = ()) -> dict[str, Any]:
    """The description that `/openapi.json` gives.

    Args:
        title: the name of the model.
        version: of rnnzoo.
        outputs: numbers that a step gives.
        static: the names of the inputs per sequence.
    """
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    opened = _answer("A stream of one's own, which is dropped when it is idle", "Opened")
    by_name = {"parameters": {"name": "$response.body#/stream"}}
    opened["links"] = {
        operation: {"operationId": operation, **by_name} for operation in ("tell", "close")
    }
    told = _answer("The answers to the message, in their order", "Answers")
    told["content"]["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    refused = {code: _answer(text, "Error") for code, text in _REFUSALS.items()}
    unknown = {"404": _answer("There is no such stream", "Error")}
    paths = {
        "/streams": {
            "post": {
                "operationId": "open",
                "summary": "Open a stream",
                "requestBody": _body("Load", required=False),
                "responses": {"201": opened, **refused},
            }
        },
        "/streams/{name}": {
            "parameters": [name],
            "post": {
                "operationId": "tell",
                "summary": "Send one message to a stream",
                "requestBody": _body("Message", required=True),
                "responses": {"200": told, **unknown, **refused},
            },
            "delete": {
                "operationId": "close",
                "summary": "Close a stream",
                "responses": {"204": {"description": "Closed"}, **unknown, **refused},
            },
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {"schemas": _schemas(outputs, list(static))},
    }


_REFUSALS = {
    "400": "The request breaks a rule, which the error says; nothing has changed",
    "403": "The page that sends the request is not allowed to",
    "408": "The body came too slowly",
    "413": "The message is too long",
    "429": "Too much waits, or too many streams are open; try again later",
    "503": "The service is about to end; `token` holds the state of the stream",
}


def _answer(description: str, schema: str) -> dict[str, Any]:
    content = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    return {"description": description, "content": {"application/json": content}}


def _body(schema: str, required: bool) -> dict[str, Any]:
    content = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    return {"required": required, "content": {"application/json": content}}


def _schemas(outputs: int, static: list[str]) -> dict[str, Any]:
    step = {"type": "integer", "minimum": 0}
    numbers = {
        "description": "a step, or a list of steps; of several inputs an object by their names",
        "type": ["number", "array", "object"],
    }
    return {
        "Opened": _object({"stream": {"type": "string"}}, ["stream"]),
        "Error": {
            "type": "object",
            "properties": {"error": {"type": "string"}, "token": {"type": ["string", "null"]}},
            "required": ["error"],
        },
        "Answers": {"type": "array", "items": {"type": "object"}},
        "Load": _object({"load": {"type": "string"}}, ["load"]),
        "Message": {
            "oneOf": [
                _object(
                    {
                        "inputs": numbers,
                        "step": step,
                        "top": {"type": "integer", "minimum": 1, "maximum": outputs},
                        "as": {"enum": ["json", "binary"]},
                    },
                    ["inputs"],
                ),
                _object(
                    {
                        "write": {"type": "integer", "minimum": 1},
                        "prompt": {"type": "string"},
                        "temperature": {"type": "number", "minimum": 0, "maximum": 100},
                        "seed": {"type": "integer", "minimum": 0, "maximum": 2**30},
                        "step": step,
                    },
                    ["write"],
                ),
                _object({"save": {"const": True}}, ["save"]),
                _object({"stop": {"const": True}}, ["stop"]),
                _object({"load": {"type": "string"}}, ["load"]),
                _object(
                    {"begin": _object(dict.fromkeys(static, {}), static), "step": step}, ["begin"]
                ),
            ]
        },
    }


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
