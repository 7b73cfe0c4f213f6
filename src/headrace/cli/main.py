"""The command line. Each command's work is imported when it runs, so that help answers at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

# Operators answer bit for bit alike only with this set before Polars starts (SEMANTICS 3).
os.environ.setdefault("POLARS_NO_PARTITION", "1")

app = typer.Typer(
    name="headrace",
    help="Real-time analytics for Python: events in, decisions out, in milliseconds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

AppArgument = Annotated[str, typer.Argument(help="module:object, a .py file, or a built-in name.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Data directory; HEADRACE_DATA_DIR by default.")
]
UrlOption = Annotated[str, typer.Option("--url", help="Address of the gateway.")]
DEFAULT_URL = "http://127.0.0.1:8000"


@app.command()
def run(  # noqa: PLR0913 - one parameter an option
    application: AppArgument,
    *,
    port: Annotated[int | None, typer.Option(help="HTTP port; 0 takes a free one.")] = None,
    data: DataOption = None,
    role: Annotated[
        str | None, typer.Option(help="Run one role: gateway, engine, model, connect.")
    ] = None,
    slot: Annotated[int, typer.Option(help="Writer slot of a gateway run alone.")] = 0,
    part: Annotated[str | None, typer.Option(help="Run one named part of the app.")] = None,
    for_: Annotated[str | None, typer.Option("--for", help="Stop after this long.")] = None,
    skip_lost: Annotated[bool, typer.Option(help="Go on where rows were lost.")] = False,
    accept_drift: Annotated[bool, typer.Option(help="Go on where replay differs.")] = False,
    drop_state: Annotated[list[str] | None, typer.Option(help="Let this state go.")] = None,
    rename_state: Annotated[list[str] | None, typer.Option(help="OLD=NEW state id.")] = None,
) -> None:
    """Run an application: gateway, engine and connectors, restarted when they die."""
    from headrace.cli.run import RunRequest, run_application

    run_application(
        RunRequest(
            application=application,
            port=port,
            data=data,
            role=role,
            slot=slot,
            part=part,
            for_=for_,
            skip_lost=skip_lost,
            accept_drift=accept_drift,
            drop_state=tuple(drop_state or ()),
            rename_state=tuple(rename_state or ()),
        )
    )


@app.command()
def demo(  # noqa: PLR0913 - one parameter an option
    application: Annotated[str, typer.Argument(help="Which demonstration.")] = "fleet",
    *,
    port: Annotated[int, typer.Option(help="HTTP port; 0 takes a free one.")] = 8000,
    speed: Annotated[float, typer.Option(help="How much faster than life it moves.")] = 10.0,
    vehicles: Annotated[int, typer.Option(help="How many take part, 1 to 100000.")] = 60,
    seed: Annotated[int, typer.Option(help="The same seed moves alike.")] = 7,
    for_: Annotated[str | None, typer.Option("--for", help="Stop after this long.")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no page.")] = False,
    data: DataOption = None,
) -> None:
    """Run a built-in application on simulated input, with its page."""
    from headrace.cli.demo import DemoRequest, run_demo

    run_demo(DemoRequest(application, port, speed, vehicles, seed, for_, not no_browser, data))


@app.command()
def topics(url: UrlOption = DEFAULT_URL) -> None:
    """List topics and tables of a running gateway."""
    from headrace.cli.topics import list_topics

    list_topics(url)


@app.command()
def tail(
    topic: str,
    *,
    url: UrlOption = DEFAULT_URL,
    where: Annotated[str | None, typer.Option(help="SQL condition on the columns.")] = None,
    limit: Annotated[int, typer.Option(help="Rows shown before the new ones.")] = 10,
) -> None:
    """Follow a topic: one JSON row per line, until interrupted."""
    from headrace.cli.tail import tail_topic

    tail_topic(topic, url, where, limit)


@app.command()
def publish(
    topic: str,
    file: Path,
    *,
    url: UrlOption = DEFAULT_URL,
    map_: Annotated[
        list[str] | None, typer.Option("--map", help="column=field of the file; repeat.")
    ] = None,
) -> None:
    """Send a JSON, NDJSON, CSV or Parquet file to a topic, or GeoJSON to a control table."""
    from headrace.cli.publish import publish_file

    publish_file(topic, file, url, tuple(map_ or ()))


@app.command()
def replay(  # noqa: PLR0913 - one parameter an option
    file: Path,
    *,
    to: Annotated[str | None, typer.Option(help="Topic of a running gateway.")] = None,
    application: Annotated[
        str | None, typer.Option("--app", help="Run this application over the file.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Topic of --app, if it has several.")] = None,
    map_: Annotated[
        list[str] | None, typer.Option("--map", help="column=field of the file; repeat.")
    ] = None,
    speed: Annotated[
        float | None, typer.Option(help="Times the recorded pace; as fast as it goes if absent.")
    ] = None,
    url: UrlOption = DEFAULT_URL,
    port: Annotated[int, typer.Option(help="HTTP port with --app.")] = 8000,
    data: DataOption = None,
    finish: Annotated[bool, typer.Option(help="Close all windows at the end.")] = False,
    load: Annotated[
        list[str] | None, typer.Option(help="table=file of a control table, put in before; repeat.")
    ] = None,
) -> None:
    """Send a recorded CSV (plain or gz) or Parquet file, at its own pace times --speed."""
    from headrace.cli.replay import ReplayRequest, replay_file

    replay_file(
        ReplayRequest(
            file=file,
            to=to,
            application=application,
            topic=topic,
            mapping=tuple(map_ or ()),
            speed=speed,
            url=url,
            port=port,
            data=data,
            finish=finish,
            load=tuple(load or ()),
        )
    )


@app.command(name="replay-step")
def replay_step(folder: Path, application: AppArgument) -> None:
    """Run a failed step again from its saved folder, to see the error."""
    from headrace.cli.replay_step import replay_failed_step

    replay_failed_step(folder, application)


@app.command()
def plan(
    application: AppArgument,
    *,
    format_: Annotated[str, typer.Option("--format", help="text, mermaid or json.")] = "text",
) -> None:
    """Show what an application would run, checked, without running it."""
    from headrace.cli.plan import show_plan

    show_plan(application, format_)


@app.command()
def doctor(data: DataOption = None) -> None:
    """Check this machine and the data directory, and say what to mend."""
    from headrace.cli.doctor import examine

    examine(data)


@app.command()
def top(url: UrlOption = DEFAULT_URL) -> None:
    """Show rates, lag and state of a running application, live."""
    from headrace.cli.top import show_top

    show_top(url)


@app.command(name="list")
def list_components(
    group: Annotated[str, typer.Argument(help="operators, codecs, connectors or apps.")] = "",
) -> None:
    """List what is installed: operators, codecs, connectors, applications."""
    from headrace.cli.components import show_components

    show_components(group)


@app.command()
def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="window, geofence, log, ingest, e2e, push, recover; all by default."),
    ] = None,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON line per bench.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Short runs: whether it works, not how fast.")
    ] = False,
) -> None:
    """Measure on this machine; outputs are compared with a reference before a figure counts."""
    from headrace.cli.bench import run_benches

    run_benches(names or [], as_json=json, quick=quick)


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    typer.echo(installed("headrace"))


def main() -> None:
    """Run the command line; a user's mistake is one line and an exit code, never a traceback."""
    from headrace.core.errors import EXIT_CODES, HeadraceError

    try:
        app()
    except HeadraceError as error:
        typer.echo(f"headrace: {error}", err=True)
        sys.exit(EXIT_CODES[error.blame])
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has left; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
