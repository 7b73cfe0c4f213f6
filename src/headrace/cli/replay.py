"""`headrace replay`: a recorded file, at its own pace times a factor."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx2
import polars as pl
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from headrace.cli.client import ask
from headrace.cli.demo import announce, gateway_url
from headrace.cli.files import mapped, read_rows
from headrace.cli.loading import load_app
from headrace.cli.publish import ROWS_PER_REQUEST, Sender, columns_of, publish_file
from headrace.cli.run import RunRequest, settings_of, supervise
from headrace.core.errors import ConfigError, ConnectError
from headrace.core.time import TIME_DTYPE
from headrace.log import open_log
from headrace.observe.logs import configure_logs
from headrace.plan.graph import Plan, schema_json
from headrace.runners.embedded.checkpoint import CheckpointStore
from headrace.runners.embedded.engine import Engine
from headrace.runners.embedded.supervisor import Role


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What was asked on the command line."""

    file: Path
    to: str | None
    application: str | None
    topic: str | None
    mapping: tuple[str, ...]
    speed: float | None
    url: str
    port: int
    data: Path | None
    finish: bool
    load: tuple[str, ...] = ()


def replay_file(request: ReplayRequest) -> None:
    """Send the file to a running gateway, or run an application over it.

    Raises:
        ConfigError: Not exactly one of `--to` and `--app`, or the file does not fit.
    """
    if (request.to is None) == (request.application is None):
        raise ConfigError(
            "say where the rows go", hint="--to TOPIC of a running gateway, or --app APP"
        )
    if request.speed is not None and request.speed <= 0:
        raise ConfigError(f"--speed {request.speed:g}: choose more than 0")
    if request.finish and request.application is None:
        raise ConfigError("--finish needs --app", hint="a running engine's input does not end")
    if request.to is not None:
        url = request.url if request.data is None else wait_for_gateway(request.data)
        _send(request, request.to, url)
    else:
        _run_over(request, str(request.application))


def _send(request: ReplayRequest, topic: str, url: str) -> None:
    """Send rows in file order; none before its recorded time, seen from the first row."""
    for pair in request.load:
        table, equals, file = pair.partition("=")
        if not equals:
            raise ConfigError(f"--load {pair!r}", hint="write table=file")
        publish_file(table, Path(file), url)
    described = ask(url, "/app")
    columns = columns_of(described, topic)
    rows = mapped(read_rows(request.file), request.mapping, columns)
    due = pace(rows, described["topics"][topic]["time"], request.speed)
    progress = Progress(
        TextColumn(request.file.name),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with httpx2.Client(base_url=url, timeout=30) as client, progress:
        sender = Sender(client, topic, request.file)
        task = progress.add_task("", total=rows.height)
        began = time.monotonic()
        start = 0
        while start < rows.height:
            stop = min(start + ROWS_PER_REQUEST, rows.height)
            if due is not None:
                now = time.monotonic() - began
                ready = int(due.search_sorted(now, side="right"))
                if ready <= start:
                    time.sleep(min(0.2, float(due[start]) - now))
                    continue
                stop = min(stop, ready)
            sender.send(start, rows.slice(start, stop - start))
            progress.update(task, completed=stop)
            start = stop
    typer.echo(sender.summary())


def pace(rows: pl.DataFrame, time_column: str, speed: float | None) -> pl.Series | None:
    """Return, per row, seconds after the first at which it may go; rising. None: at once.

    Raises:
        ConfigError: The time column is missing or unreadable, so there is no pace.
    """
    if speed is None:
        return None
    if time_column not in rows.columns:
        raise ConfigError(
            f"--speed needs the time column {time_column!r}",
            hint=f"--map {time_column}=FIELD; the file has {', '.join(rows.columns)}",
        )
    times = rows[time_column]
    if times.dtype == pl.String:
        times = times.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    elif isinstance(times.dtype, pl.Datetime):
        times = times.dt.replace_time_zone("UTC") if times.dtype.time_zone is None else times
    else:
        raise ConfigError(f"times of type {times.dtype} have no pace", hint="leave --speed out")
    micros = times.cast(TIME_DTYPE).to_physical().cum_max().fill_null(strategy="forward")
    first = micros.drop_nulls().min()
    if not isinstance(first, int):
        raise ConfigError(f"no time of {time_column!r} could be read", hint="leave --speed out")
    return ((micros.fill_null(first) - first) / 1e6 / speed).alias("due")


def _run_over(request: ReplayRequest, application: str) -> None:
    app = load_app(application)
    plan = app.plan()
    # A recording is of what happens; what feeds control tables is what people decide.
    feeds = {table.feed.topic for table in plan.control_tables if table.feed is not None}
    usual = [each.name for each in plan.topics if each.name not in feeds] or sorted(feeds)
    topic = request.topic or usual[0]
    if request.topic is None and len(usual) > 1:
        names = ", ".join(each.name for each in plan.topics)
        raise ConfigError(f"{application} has several topics", hint=f"--topic, one of {names}")
    mapped(read_rows(request.file), request.mapping, schema_json(plan.topic(topic).schema.columns))
    scratch = Path(tempfile.mkdtemp(prefix="headrace-replay-")) if request.data is None else None
    run = RunRequest(application, port=request.port, data=request.data or scratch)
    settings = settings_of(run)
    configure_logs("supervisor", app.name, log_format=settings.log_format, level="warning")
    words = [sys.executable, "-m", "headrace", "replay", str(request.file), "--to", topic]
    words += ["--data", str(settings.data_dir)]
    words += [word for pair in request.mapping for word in ("--map", pair)]
    words += [word for pair in request.load for word in ("--load", pair)]
    words += ["--speed", str(request.speed)] if request.speed is not None else []
    sender = Role("replay", words, once=True, ends_run=request.finish)
    try:
        completed = supervise(
            run,
            app,
            settings,
            extra=(sender,),
            ready=lambda: announce(settings.data_dir, browser=False, title=app.title),
        )
        if completed:
            _finish(plan, settings.data_dir)
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _finish(plan: Plan, data: Path) -> None:
    """Read what is left, close everything still open, and say what came out."""
    checkpoints = CheckpointStore(data / f"engine-{plan.app}" / "checkpoints")
    log = open_log(data)
    engine = Engine(plan, log, checkpoints=checkpoints)
    engine.start()
    try:
        engine.finish()
    finally:
        engine.close()
    reader = log.reader()
    try:
        names = [output.name for output in plan.outputs]
        for at, info in sorted(reader.partitions(names).items()):
            typer.echo(f"{at.topic}: {info.end} rows")
    finally:
        reader.close()


def wait_for_gateway(data: Path) -> str:
    """Return the address of the gateway of a data directory once it listens.

    Raises:
        ConnectError: None came up within a minute.
    """
    for _ in range(600):
        url = gateway_url(data)
        if url is not None:
            return url
        time.sleep(0.1)
    raise ConnectError(f"no gateway came up on {data}")
