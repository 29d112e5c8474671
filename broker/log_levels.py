"""The level of this process's log, by Kafka's names for levels, as tools read and set it. There is one logger, `root`.

A level set here holds until the process ends.
"""

from __future__ import annotations

import logging

import structlog

ROOT = "root"
LEVELS = {
    "DEBUG": logging.DEBUG,
    "ERROR": logging.ERROR,
    "FATAL": logging.CRITICAL,
    "INFO": logging.INFO,
    "TRACE": logging.NOTSET,
    "WARN": logging.WARNING,
}
"""Kafka's names, sorted, with Python's numbers."""


def root_level() -> str:
    """The level in force."""
    number = structlog.get_logger().bind().get_effective_level()
    return next((name for name, level in LEVELS.items() if level == number), "TRACE")


def set_root_level(name: str) -> None:
    """Log from this level on. Raises KeyError for a name that isn't one of LEVELS."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(LEVELS[name]))
