"""Where a model lies now: which version an alias names, what a file's content is called."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote, urlparse

from headrace.core.errors import ConnectError, MissingExtraError, NotFoundError

if TYPE_CHECKING:
    from headrace.models.description import Artifact

REGISTERED: Final = "models:/"
_DIGITS: Final = 12


class Version(NamedTuple):
    """One version of a model: what it is called, and from where exactly this one is loaded."""

    version: str
    source: str


def current_version(model: Artifact) -> Version:
    """Return the version that the model's path or alias names now.

    Raises:
        NotFoundError: There is no such file, model, version or alias; the hint names what is there.
        MissingExtraError: MLflow is not installed.
        ConnectError: The registry does not answer.
    """
    if model.source.startswith(REGISTERED):
        return registered_version(model.source, model.options().get("registry"))
    return Version(model.version or content_version(model.source), model.source)


def local_path(source: str) -> Path:
    """Return the path of a plain path or a `file:` address."""
    return Path(unquote(urlparse(source).path)) if source.startswith("file:") else Path(source)


def content_version(source: str) -> str:
    """Return 12 hex digits of the SHA-256 over a file, or over the names and files of a folder.

    Raises:
        NotFoundError: There is nothing at `source`.
    """
    root = local_path(source)
    if root.is_file():
        with root.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]
    if not root.is_dir():
        raise NotFoundError(f"there is no model at {source}", hint="name a file that is there")
    total = hashlib.sha256()
    for path in sorted(each for each in root.rglob("*") if each.is_file()):
        total.update(f"{path.relative_to(root).as_posix()}\0".encode())
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:_DIGITS]


def registered_version(uri: str, registry: str | None) -> Version:
    """Return the version that `models:/name@alias` or `models:/name/3` names now.

    Raises:
        NotFoundError: There is no such model, version or alias.
        MissingExtraError: MLflow is not installed.
        ConnectError: The registry does not answer.
    """
    client, failure = mlflow_client(registry)
    name, _, alias = uri.removeprefix(REGISTERED).partition("@")
    name, _, number = name.partition("/")
    try:
        if alias:
            found = client.get_model_version_by_alias(name, alias)
        else:
            found = client.get_model_version(name, number)
    except failure as error:
        raise _not_found(client, failure, uri, error) from error
    return Version(str(found.version), f"{REGISTERED}{name}/{found.version}")


def mlflow_client(registry: str | None) -> tuple[Any, type[Exception]]:
    """Return a client of MLflow's registry and the class of what it raises.

    Raises:
        MissingExtraError: MLflow is not installed.
    """
    if registry is not None and registry.startswith("file:"):
        # MLflow asks that a registry in files is chosen on purpose; naming it is that.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    try:
        import mlflow
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise missing_extra("mlflow") from error
    if registry is not None:
        mlflow.set_tracking_uri(registry)
        mlflow.set_registry_uri(registry)
    return mlflow.MlflowClient(), MlflowException


def missing_extra(package: str) -> MissingExtraError:
    """Return the error for a package of the extra `models` that is not installed."""
    return MissingExtraError(
        f"{package} is not installed", hint="install it: pip install 'headrace[models]'"
    )


def _not_found(
    client: Any, failure: type[Exception], uri: str, error: Exception
) -> NotFoundError | ConnectError:
    code = getattr(error, "error_code", "")
    if code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
        return ConnectError(f"the model registry does not answer for {uri}: {error}")
    name = uri.removeprefix(REGISTERED).partition("@")[0].partition("/")[0]
    try:
        aliases = sorted(client.get_registered_model(name).aliases)
    except failure:
        return NotFoundError(
            f"the registry has no model {name!r} ({uri})", hint="register it, or correct the name"
        )
    known = ", ".join(aliases) or "none"
    return NotFoundError(
        f"model {name!r} has no such alias or version: {uri}",
        hint=f"its aliases are {known}; set one with MlflowClient.set_registered_model_alias",
    )
