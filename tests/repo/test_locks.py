"""The locked requirements hold what pyproject.toml asks for, and name no place it came from."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ("3.11", "3.12", "3.13")

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
WANTED: dict[str, list[str]] = {
    "run": PROJECT["project"]["dependencies"],
    "dev": PROJECT["project"]["dependencies"] + PROJECT["dependency-groups"]["dev"],
    "node": PROJECT["dependency-groups"]["node"],
    "uv": PROJECT["dependency-groups"]["uv"],
}


def pins(lock: str) -> list[Requirement]:
    text = (ROOT / f"requirements/{lock}.txt").read_text()
    lines = re.sub(r"\s*\\\n\s*--hash=\S+", "", text).splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def locked(lock: str, name: str, python: str) -> str | None:
    place = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
    }
    for pin in pins(lock):
        here = pin.marker is None or pin.marker.evaluate(place)
        if canonicalize_name(pin.name) == canonicalize_name(name) and here:
            return next(iter(pin.specifier)).version
    return None


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", WANTED)
def test_lock_satisfies_every_declared_requirement(lock: str, python: str) -> None:
    wanted = [Requirement(text) for text in WANTED[lock]]

    versions = {want.name: locked(lock, want.name, python) for want in wanted}

    assert [want.name for want in wanted if versions[want.name] is None] == []
    assert [want for want in wanted if not want.specifier.contains(versions[want.name] or "")] == []


@pytest.mark.parametrize("lock", WANTED)
def test_every_locked_package_has_an_exact_version_and_hashes(lock: str) -> None:
    text = (ROOT / f"requirements/{lock}.txt").read_text()
    entries = re.findall(r"^[a-z0-9][^\\\n]*(?:\\\n[^\\\n]*)*", text, re.MULTILINE)

    assert len(entries) == len(pins(lock))
    assert [
        entry for entry in entries if not re.match(r"\S+==\S+.*\\\n\s+--hash=sha256:", entry)
    ] == []


@pytest.mark.parametrize("lock", WANTED)
def test_lock_says_nothing_about_where_packages_came_from(lock: str) -> None:
    text = (ROOT / f"requirements/{lock}.txt").read_text()

    assert re.findall(r"://| @ |--(?!hash)\w[\w-]*", text) == []


def test_run_and_development_use_the_same_versions() -> None:
    development = {str(pin) for pin in pins("dev")}

    assert [str(pin) for pin in pins("run") if str(pin) not in development] == []


def test_web_lock_has_a_hash_for_every_package_and_names_no_address() -> None:
    text = (ROOT / "web/package-lock.json").read_text()

    assert '"resolved"' not in text
    assert text.count('"integrity": "sha512-') == text.count('"node_modules/')
