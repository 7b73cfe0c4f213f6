"""What the code imports is what pyproject.toml declares, no less and no more."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROVIDERS = packages_distributions()
ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# uvicorn finds these by itself when they are installed.
FOUND_BY_UVICORN = {"httptools", "uvloop", "websockets"}


def imported() -> Iterator[tuple[str, str]]:
    """Top-level package and file of every import of something that is neither ours nor Python's."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = [node.module]
            else:
                continue
            for module in modules:
                top = module.partition(".")[0]
                if top != "headrace" and top not in sys.stdlib_module_names:
                    yield top, str(path.relative_to(ROOT))


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def distributions(top: str) -> set[str]:
    """Distributions that provide a package, installed or by its own name."""
    return {canonicalize_name(name) for name in PROVIDERS.get(top, [top])}


def test_every_import_is_declared() -> None:
    declared = names(PROJECT["dependencies"]).union(
        *(names(extra) for extra in PROJECT["optional-dependencies"].values())
    )

    undeclared = {where: top for top, where in imported() if not distributions(top) & declared}

    assert undeclared == {}


def test_every_dependency_is_imported() -> None:
    used = {name for top, _ in imported() for name in distributions(top)}

    assert names(PROJECT["dependencies"]) - used - FOUND_BY_UVICORN == set()
