"""The loop of a driver in Python: requests come in as lines, answers go out as lines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

Request = Mapping[str, Any]


class ClientError(Exception):
    """What a client library said: its own name for the error, Kafka's number for it, and the text."""

    def __init__(self, name: str, code: int | None, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.code = code
        self.text = text


class NoSuchCall(ClientError):
    """The library has no such call."""

    def __init__(self, what: str) -> None:
        super().__init__("NoSuchCall", None, what)


def serve(client: object, translated: Callable[[Exception], ClientError]) -> None:
    """Answer requests with the methods of `client` until there are no more. Whatever else prints, prints to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        name = request["do"] if request["do"] != "admin" else f"admin_{request['call']}"
        try:
            method = getattr(client, name, None)
            if method is None:
                raise NoSuchCall(name)
            answer: dict[str, Any] = {"ok": method(request)}
        except Exception as raised:
            error = raised if isinstance(raised, ClientError) else translated(raised)
            answer = {"error": {"name": error.name, "code": error.code, "text": error.text[:500]}}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    os._exit(0)
