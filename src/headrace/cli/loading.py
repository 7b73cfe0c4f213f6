"""Find an application by `module:object`, file or built-in name."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

from headrace.core.errors import ConfigError
from headrace.core.registry import kinds, load
from headrace.stream.app import App


def load_app(reference: str) -> App:
    """Return the application that `reference` names.

    Args:
        reference: `module:object`, a `.py` file (with `:object` for another name than `app`),
            or the name of a built-in or installed application.

    Raises:
        ConfigError: There is no such module, file, name or object, or it is no App.
    """
    if reference in kinds("headrace.apps"):
        return _checked(load("headrace.apps", reference), reference)
    place, _, attribute = reference.partition(":")
    if place.endswith(".py"):
        return _from_file(Path(place), attribute or "app")
    if not attribute:
        raise ConfigError(
            f"no application {reference!r}",
            hint=f"built-in are {', '.join(kinds('headrace.apps')) or 'none'}; "
            "your own is module:object or a .py file",
        )
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(place)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"cannot import {place!r}: {error}", hint="run from the folder that holds it"
        ) from error
    return _of(module, attribute, reference)


def _from_file(path: Path, attribute: str) -> App:
    if not path.is_file():
        raise ConfigError(f"no file {path}", hint="give the path of your application's .py file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    return _of(module, attribute, str(path))


def _of(module: object, attribute: str, reference: str) -> App:
    found = getattr(module, attribute, None)
    if found is None:
        raise ConfigError(
            f"{reference} has no {attribute!r}",
            hint='name the object: "module:object"; it is `app` by default in files',
        )
    return _checked(found, reference)


def _checked(found: object, reference: str) -> App:
    if not isinstance(found, App):
        raise ConfigError(f"{reference} is a {type(found).__name__}, not an App")
    return found
