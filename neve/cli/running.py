"""Finding the running system: `--http URL` names an agent, which tells its Kafka address and its tables' catalog."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from neve.cli.output import fail

TIMEOUT_S = 10.0


def get_json(http: str, path: str) -> Any:
    """GET a JSON document of the agent, or end with a line that says what to do."""
    return _asked(http, path, lambda url: urllib.request.Request(url))


def send_json(http: str, method: str, path: str, body: Any = None) -> Any:
    """Ask the agent to change something; its answer, or end with a line that says what to do."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    return _asked(http, path, lambda url: urllib.request.Request(url, data, headers, method=method))


def _asked(http: str, path: str, request: Callable[[str], urllib.request.Request]) -> Any:
    url = http.rstrip("/") + path
    if not url.startswith(("http://", "https://")):
        fail(f"--http wants a URL like http://127.0.0.1:8080, not {http!r}", 2)
    try:
        with urllib.request.urlopen(request(url), timeout=TIMEOUT_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        fail(_said(error) or f"{url} answered {error.code} {error.reason}")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        fail(
            f"no agent at {http} ({reason}); start one with `neve agent --data DIR`, or name it with --http or NEVE_HTTP"
        )


def _said(error: urllib.error.HTTPError) -> str | None:
    """The agent's own words, where it has some."""
    try:
        answer = json.load(error)
    except ValueError:
        return None
    return str(answer["error"]) if isinstance(answer, dict) and "error" in answer else None


def kafka_address(http: str) -> str:
    """The Kafka address of the agent behind `http`."""
    agent = get_json(http, "/v1/cluster")
    return str(agent["kafka"])
