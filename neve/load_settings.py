"""Settings from flags, environment, file and defaults, with their sources; and the same as an environment for children."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from schemas.settings import Settings

SETTINGS_FILE = "neve.toml"


class SettingsError(Exception):
    """A setting is wrong; the message names it, its value and what it may be."""


def load_settings(**flags: Any) -> Settings:
    """Settings from flags (None counts as not given), environment, neve.toml and defaults."""
    from pydantic import ValidationError

    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"setting {name}={first.get('input')!r}: {first['msg']}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{SETTINGS_FILE}: {error}") from error


def effective_settings() -> list[dict[str, Any]]:
    """One row per setting: name, value, source (environment, neve.toml, default) and description."""
    effective = load_settings()
    in_file: dict[str, Any] = {}
    path = Path(SETTINGS_FILE)
    if path.exists():
        in_file = tomllib.loads(path.read_text())
    environment = {name.upper() for name in os.environ}
    rows = []
    for name, field in Settings.model_fields.items():
        if f"NEVE_{name.upper()}" in environment:
            source = "environment"
        elif name in in_file:
            source = SETTINGS_FILE
        else:
            source = "default"
        rows.append(
            {"name": name, "value": getattr(effective, name), "source": source, "description": field.description or ""}
        )
    return rows


def as_environment(settings: Settings) -> dict[str, str]:
    """The settings that differ from their defaults, as environment variables for a child process."""
    found = {}
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        if value is not None and value != field.default:
            found[f"NEVE_{name.upper()}"] = str(value)
    return found
