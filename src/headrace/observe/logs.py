"""Structured logs: every line names its role and application."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog

LogFormat = Literal["auto", "json", "text"]


def configure_logs(
    role: str, app: str, *, log_format: LogFormat = "auto", level: str = "info"
) -> None:
    """Send this process's logs to standard error, one line each, with `role` and `app` bound.

    Args:
        role: gateway, engine, connect, supervisor or cli.
        app: The application's name.
        log_format: `json` or `text`; `auto` is text on a terminal and JSON elsewhere.
        level: Least severity shown.
    """
    as_text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _bind(role, app),
            structlog.dev.ConsoleRenderer() if as_text else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _bind(role: str, app: str) -> structlog.typing.Processor:
    def bind(
        _logger: structlog.typing.WrappedLogger, _name: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        event.setdefault("role", role)
        event.setdefault("app", app)
        return event

    return bind
