"""`headrace run`: one role, or a supervisor over all of them."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headrace.alerts.channel import check_channels
from headrace.alerts.secrets import Secrets
from headrace.cli.loading import load_app
from headrace.core.errors import ConfigError, OutsideError
from headrace.core.settings import Settings
from headrace.core.time import duration
from headrace.observe.logs import configure_logs
from headrace.plan.graph import Computing
from headrace.runners.embedded.lifeline import stop_on_signal
from headrace.runners.embedded.supervisor import Role, Supervisor
from headrace.stream.app import App

ROLES = ("gateway", "engine", "model", "connect")


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What was asked on the command line."""

    application: str
    port: int | None = None
    data: Path | None = None
    role: str | None = None
    slot: int = 0
    part: str | None = None
    for_: str | None = None
    skip_lost: bool = False
    accept_drift: bool = False
    drop_state: tuple[str, ...] = ()
    rename_state: tuple[str, ...] = ()


def run_application(request: RunRequest) -> None:
    """Run a role in this process, or supervise all roles until stopped.

    Raises:
        ConfigError: The request contradicts itself or the application.
    """
    settings = settings_of(request)
    app = load_app(request.application)
    if request.part is not None:
        raise ConfigError(
            f"application {app.name!r} has no part {request.part!r}",
            hint="parts are named in the application's code",
        )
    configure_logs(
        request.role or "supervisor",
        app.name,
        log_format=settings.log_format,
        level=settings.log_level,
    )
    if request.role is not None:
        _run_role(request, app, settings)
        return
    app.plan()
    supervise(request, app, settings)


def supervise(
    request: RunRequest,
    app: App,
    settings: Settings,
    *,
    extra: tuple[Role, ...] = (),
    ready: Callable[[], None] | None = None,
) -> bool:
    """Run all roles as processes; `extra` ones end first. Exits with a refused role's code.

    Returns:
        Whether a role that ends the run was done, rather than somebody stopping it.
    """
    check_port(settings.gateway.host, settings.gateway.port)
    check_channels([delivery.channel for delivery in app.deliveries], secrets_of(settings))
    data = settings.data_dir
    data.mkdir(parents=True, exist_ok=True)
    command = role_command(request, settings)

    plan = app.plan()

    def step_of(role: Computing) -> Callable[[], int | None]:
        status = data / f"engine-{plan.part(role).app}" / "status.json"

        def step() -> int | None:
            try:
                found = json.loads(status.read_bytes()).get("step")
            except (OSError, ValueError):
                return None
            return found if isinstance(found, int) else None

        return step

    roles = [*extra, Role("gateway", command("gateway"))]
    if app.handlers or app.deliveries or app.watches:
        roles.append(Role("connect", command("connect")))
    roles += [Role(role, command(role), step_of(role)) for role in reversed(plan.roles())]
    supervisor = Supervisor(roles, data / "supervisor" / "status.json")
    stop_on_signal(supervisor.stop)
    if ready is not None:
        ready()
    span = duration(request.for_).total_seconds() if request.for_ else None
    code = supervisor.run(span)
    if code:
        sys.exit(code)
    return supervisor.completed


def settings_of(request: RunRequest) -> Settings:
    """Return the settings with what the command line says of them.

    Raises:
        ConfigError: A setting does not fit.
    """
    settings = read_settings()
    if request.data is not None:
        settings = settings.model_copy(update={"data_dir": request.data})
    if request.port is not None:
        gateway = settings.gateway.model_copy(update={"port": request.port})
        settings = settings.model_copy(update={"gateway": gateway})
    return settings


def read_settings() -> Settings:
    """Read environment and `headrace.toml`.

    Raises:
        ConfigError: A setting does not fit; the message names it.
    """
    from pydantic import ValidationError

    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "HEADRACE_" + "__".join(str(part) for part in first["loc"]).upper()
        raise ConfigError(f"{name}: {first['msg']}", hint="see docs/operations.md") from error


def secrets_of(settings: Settings) -> Secrets:
    """Return the secrets of the environment and the settings."""
    return Secrets({name: value.get_secret_value() for name, value in settings.secrets.items()})


def role_command(request: RunRequest, settings: Settings) -> Callable[[str], list[str]]:
    """Return a function from role to its command line, which names the role."""

    def command(role: str) -> list[str]:
        words = [sys.executable, "-m", "headrace", "run", request.application, "--role", role]
        words += ["--data", str(settings.data_dir), "--port", str(settings.gateway.port)]
        if role in ("engine", "model"):
            words += ["--skip-lost"] if request.skip_lost else []
            words += ["--accept-drift"] if request.accept_drift else []
            words += [word for node in request.drop_state for word in ("--drop-state", node)]
            words += [word for pair in request.rename_state for word in ("--rename-state", pair)]
        return words

    return command


def check_port(host: str, port: int) -> None:
    """Find out before anything starts whether the port is free.

    Raises:
        OutsideError: Somebody listens there already.
    """
    if port == 0:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OutsideError(
                f"cannot listen on {host}:{port}: {error.strerror}",
                hint="choose another with --port, or --port 0 for a free one",
            ) from error


def _run_role(request: RunRequest, app: App, settings: Settings) -> None:
    match request.role:
        case "gateway":
            from headrace.gateway.serve import serve

            serve(app, settings.data_dir, settings.gateway, slot=request.slot)
        case "engine" | "model" as role:
            from headrace.models.cache import CACHE
            from headrace.runners.embedded.engine import ENGINE_SLOT, MODEL_SLOT
            from headrace.runners.embedded.role import run_engine

            plan = app.plan()
            if role not in plan.roles():
                raise ConfigError(
                    f"application {app.name!r} has nothing for the role {role}",
                    hint='app.output(..., role="model") gives it predictions to make',
                )
            CACHE.limit(settings.models.cache_size, settings.models.cache_bytes)
            run_engine(
                plan.part(role),
                settings.data_dir,
                settings.engine,
                slot=ENGINE_SLOT if role == "engine" else MODEL_SLOT,
                skip_lost=request.skip_lost,
                accept_drift=request.accept_drift,
                drop_state=request.drop_state,
                rename_state=_pairs(request.rename_state),
            )
        case "connect":
            from headrace.connect.role import run_connect

            run_connect(
                app,
                settings.data_dir,
                secrets_of(settings),
                allow_private=settings.connect.allow_private,
            )
        case _:
            raise ConfigError(f"no role {request.role!r}", hint=f"roles are {', '.join(ROLES)}")


def _pairs(texts: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for text in texts:
        old, equals, new = text.partition("=")
        if not equals:
            raise ConfigError(f"--rename-state {text!r}", hint="write OLD=NEW")
        pairs.append((old, new))
    return tuple(pairs)
