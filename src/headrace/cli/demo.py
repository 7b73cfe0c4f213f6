"""`headrace demo`: a built-in application on simulated input."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import tempfile
import threading
import time
import webbrowser
from dataclasses import dataclass
from pathlib import Path

import typer

from headrace.cli.loading import load_app
from headrace.cli.run import RunRequest, settings_of, supervise
from headrace.core.errors import ConfigError
from headrace.core.registry import kinds
from headrace.core.time import duration
from headrace.observe.logs import configure_logs
from headrace.runners.embedded.supervisor import Role


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """What was asked on the command line."""

    application: str
    port: int
    speed: float
    vehicles: int
    seed: int
    for_: str | None
    browser: bool
    data: Path | None


def run_demo(request: DemoRequest) -> None:
    """Run the application, feed it, and show its page until stopped.

    Raises:
        ConfigError: There is no such demonstration, or a number does not fit.
        OutsideError: The port is taken.
    """
    feed = f"headrace.apps.{request.application}.feed"
    if request.application not in kinds("headrace.apps") or not importlib.util.find_spec(feed):
        raise ConfigError(
            f"no demonstration {request.application!r}",
            hint=f"there are {', '.join(kinds('headrace.apps'))}",
        )
    if not 1 <= request.vehicles <= 100_000:  # noqa: PLR2004 - the stated range
        raise ConfigError(f"--vehicles {request.vehicles}: choose 1 to 100000")
    if request.speed <= 0:
        raise ConfigError(f"--speed {request.speed:g}: choose more than 0")
    if request.for_ is not None:
        duration(request.for_)
    scratch = Path(tempfile.mkdtemp(prefix="headrace-demo-")) if request.data is None else None
    data = request.data or scratch
    run = RunRequest(request.application, port=request.port, data=data, for_=request.for_)
    settings = settings_of(run)
    app = load_app(request.application)
    configure_logs("supervisor", app.name, log_format=settings.log_format, level="warning")
    feeder = Role(
        "simulator",
        [
            *(sys.executable, "-m", feed),
            *("--data", str(settings.data_dir)),
            *("--vehicles", str(request.vehicles)),
            *("--speed", str(request.speed)),
            *("--seed", str(request.seed)),
        ],
    )
    try:
        supervise(
            run,
            app,
            settings,
            extra=(feeder,),
            ready=lambda: announce(settings.data_dir, browser=request.browser, title=app.title),
        )
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def gateway_url(data: Path) -> str | None:
    """Return where the gateway of a data directory listens, None while it does not."""
    try:
        status = json.loads((data / "gateway-0" / "status.json").read_bytes())
    except (OSError, ValueError):
        return None
    return f"http://{status['host']}:{status['port']}" if status.get("port") else None


def announce(data: Path, *, browser: bool, title: str) -> None:
    """Print where the page is, and open it, once every role is ready."""

    def wait() -> None:
        import httpx2

        for _ in range(600):
            url = gateway_url(data)
            if url is not None:
                try:
                    ready = httpx2.get(f"{url}/health/ready", timeout=2).is_success
                except httpx2.HTTPError:
                    ready = False
                if ready:
                    typer.echo(f"{title}: {url}   (Ctrl-C ends it)")
                    if browser:
                        webbrowser.open(url)
                    return
            time.sleep(0.1)

    threading.Thread(target=wait, name="announce", daemon=True).start()
