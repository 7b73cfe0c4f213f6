"""`headrace list`: what is installed."""

from __future__ import annotations

import typer

from headrace.core.errors import ConfigError
from headrace.core.registry import GROUPS, kinds


def show_components(group: str) -> None:
    """Print registered names, of one group or of all.

    Raises:
        ConfigError: There is no such group.
    """
    known = {name.removeprefix("headrace."): name for name in GROUPS}
    if group and group not in known:
        raise ConfigError(f"no group {group!r}", hint=f"groups are {', '.join(known)}")
    for short, name in known.items():
        if group in ("", short):
            typer.echo(f"{short}: {', '.join(kinds(name)) or 'none'}")
