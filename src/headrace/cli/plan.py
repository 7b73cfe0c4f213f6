"""`headrace plan`: what would run."""

from __future__ import annotations

import json

import typer

from headrace.cli.loading import load_app
from headrace.core.errors import ConfigError
from headrace.plan.check import check
from headrace.plan.explain import explain_mermaid, explain_text


def show_plan(application: str, format_: str) -> None:
    """Print the plan of an application as text, mermaid or JSON.

    Raises:
        ConfigError: Another format was asked for.
    """
    plan = load_app(application).plan()
    match format_:
        case "text":
            typer.echo(explain_text(plan))
            for finding in check(plan):
                typer.echo(str(finding), err=True)
        case "mermaid":
            typer.echo(explain_mermaid(plan))
        case "json":
            typer.echo(json.dumps(plan.to_json(), indent=2))
        case _:
            raise ConfigError(f"no format {format_!r}", hint="text, mermaid or json")
