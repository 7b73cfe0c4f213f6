"""Set up the working tree: .venv, the locked packages, the built dashboard.

Runs on a bare Python 3.11+ with nothing but the standard library. Every step is skipped while the
files it depends on are unchanged, so that each make target can call it first.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
PYTHON = BIN / "python"
STAMPS = VENV / "setup.json"
WEB = ROOT / "web"
DASHBOARD = ROOT / "src/headrace/gateway/dashboard"
OLDEST_PYTHON = (3, 11)

# uv and Node read their own names only; a machine that is set up for pip should work as it is.
SAME_AS_PIP = {
    "UV_DEFAULT_INDEX": "PIP_INDEX_URL",
    "UV_INDEX": "PIP_EXTRA_INDEX_URL",
    "SSL_CERT_FILE": "PIP_CERT",
    "NODE_EXTRA_CA_CERTS": "PIP_CERT",
}


class SetupError(Exception):
    """Set-up cannot go on; the text says what to do."""


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return `given` with pip's settings repeated for uv and Node, .venv first in PATH."""
    env = {name: given[pip] for name, pip in SAME_AS_PIP.items() if pip in given} | dict(given)
    env["PATH"] = f"{BIN}{os.pathsep}{env.get('PATH', '')}"
    env["VIRTUAL_ENV"] = str(VENV)
    env["UV_NO_PROGRESS"] = env["NO_UPDATE_NOTIFIER"] = "1"
    return env


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run `command`; its output is the user's to read.

    Raises:
        SetupError: It failed.
    """
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=environment(os.environ), check=False)
    if done.returncode:
        raise SetupError(f"`{' '.join(words)}` failed with exit code {done.returncode}")


def works(*command: str | Path) -> bool:
    """Return whether `command` can be run and ends well; its output is not shown."""
    try:
        done = subprocess.run(
            [str(word) for word in command],
            env=environment(os.environ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


def digest(paths: Iterable[Path]) -> str:
    """Return a hash of the names and contents of `paths`."""
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(str(path.relative_to(ROOT)).encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


class Stamps:
    """What each step had as its input when it last ended well, kept inside .venv."""

    def __init__(self) -> None:
        self._known: dict[str, str] = json.loads(STAMPS.read_text()) if STAMPS.is_file() else {}

    def current(self, step: str, inputs: str) -> bool:
        """Return whether `step` last ran on exactly these inputs."""
        return self._known.get(step) == inputs

    def done(self, step: str, inputs: str) -> None:
        """Remember that `step` ended well on these inputs."""
        self._known[step] = inputs
        STAMPS.write_text(json.dumps(self._known, indent=1, sort_keys=True) + "\n")


def make_venv() -> None:
    """Create .venv unless a working one is there; pip inside it is welcome but not needed.

    Raises:
        SetupError: This Python is too old.
    """
    if works(PYTHON, "-c", f"import sys; sys.exit(sys.version_info < {OLDEST_PYTHON})"):
        return
    if sys.version_info < OLDEST_PYTHON:
        version = ".".join(map(str, OLDEST_PYTHON))
        raise SetupError(f"headrace needs Python {version}+; try `make PYTHON=python{version}`")
    print(f"setup: creating {VENV.name} with Python {sys.version.split()[0]}", flush=True)
    shutil.rmtree(VENV, ignore_errors=True)
    run(sys.executable, "-m", "venv", "--without-pip", VENV)


def find_uv() -> Path:
    """Return uv: the machine's, the one in .venv, or a new one installed there with pip.

    Raises:
        SetupError: There is no uv and nothing to install it with.
    """
    found = shutil.which("uv", path=f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}")
    # A version manager's shim may be on PATH without a uv behind it.
    if found and works(found, "--version"):
        return Path(found)
    lock = ("install", "--quiet", "--require-hashes", "-r", ROOT / "requirements/uv.txt")
    print(f"setup: installing uv into {VENV.name}", flush=True)
    if importlib.util.find_spec("ensurepip") is None and not works(sys.executable, "-m", "pip"):
        install_ensurepip()
    if works(sys.executable, "-m", "pip", "--version"):
        run(sys.executable, "-m", "pip", "--python", PYTHON, *lock)
    else:
        run(PYTHON, "-m", "ensurepip", "--upgrade")
        run(PYTHON, "-m", "pip", *lock)
    return BIN / "uv"


def install_ensurepip() -> None:
    """Debian ships Python's installer apart: fetch it where we may, else say how.

    Raises:
        SetupError: We are not root, or this is no Debian.
    """
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise SetupError(
            f"{sys.executable} has neither pip nor ensurepip, and there is no uv on PATH; "
            f"install one of them (Debian, Ubuntu: `apt install {package}`), then try again"
        )
    print(f"setup: this Python has no installer; installing Debian's {package}", flush=True)
    run("apt-get", "update", "-qq")
    run("apt-get", "install", "-qq", "-y", "--no-install-recommends", package)


def install_packages(uv: Path, stamps: Stamps) -> None:
    """Install exactly what requirements/dev.txt locks, then headrace itself, editable."""
    lock = ROOT / "requirements/dev.txt"
    inputs = digest([lock, ROOT / "pyproject.toml", ROOT / "hatch_build.py"])
    if stamps.current("packages", inputs):
        return
    print("setup: installing the locked packages", flush=True)
    pip = (uv, "pip", "install", "--quiet", "--python", PYTHON)
    run(*pip, "--require-hashes", "-r", lock)
    # The build back end is among the locked packages, so nothing unlocked is fetched here.
    run(*pip, "--no-deps", "--no-build-isolation", "--editable", ROOT)
    stamps.done("packages", inputs)


def node_is_new_enough(version: str) -> bool:
    """Return whether Node `version` ("v20.19.1") runs Vite 8: 20.19+, 22.12+ or later.

    Example:
        >>> [node_is_new_enough(text) for text in ("v18.20.4", "v20.19.0", "v22.11.0", "v24.1.0")]
        [False, True, False, True]
    """
    major, minor = (int(part) for part in version.strip().removeprefix("v").split(".")[:2])
    return (major == 20 and minor >= 19) or (major == 22 and minor >= 12) or major >= 23  # noqa: PLR2004 - Vite's own bounds


def find_npm(uv: Path) -> Path:
    """Return the machine's npm where its Node will do, else one from PyPI inside .venv."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        told = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
        if told.returncode == 0 and node_is_new_enough(told.stdout):
            return Path(npm)
    if not (BIN / "npm").exists():
        print(f"setup: no Node 20.19+ here; installing one into {VENV.name}", flush=True)
        lock = ROOT / "requirements/node.txt"
        pip = (uv, "pip", "install", "--quiet", "--python", PYTHON)
        run(*pip, "--require-hashes", "-r", lock)
    return BIN / "npm"


def web_sources() -> list[Path]:
    """Return every file that the built dashboard depends on."""
    ignored = {"node_modules", "tests", "test-results"}
    return [
        path
        for path in WEB.rglob("*")
        if path.is_file() and ignored.isdisjoint(path.relative_to(WEB).parts)
    ]


def install_web_packages(npm: Path, stamps: Stamps) -> None:
    """Install exactly what web/package-lock.json locks."""
    inputs = digest([WEB / "package.json", WEB / "package-lock.json"])
    if stamps.current("web packages", inputs) and (WEB / "node_modules").is_dir():
        return
    print("setup: installing the locked web packages", flush=True)
    run(npm, "ci", "--loglevel=error", cwd=WEB)
    stamps.done("web packages", inputs)


def build_dashboard(npm: Path, stamps: Stamps) -> None:
    """Build web/ into the package, from where the gateway serves it and wheels take it."""
    inputs = digest(web_sources())
    if stamps.current("dashboard", inputs) and (DASHBOARD / "index.html").is_file():
        return
    install_web_packages(npm, stamps)
    print("setup: building the dashboard", flush=True)
    run(npm, "run", "--silent", "build", cwd=WEB)
    stamps.done("dashboard", inputs)


def main(arguments: Sequence[str]) -> int:
    """Set up what is not up to date; with `--npm ...` then run npm in web/."""
    parser = argparse.ArgumentParser(description="Set up the working tree.")
    parser.add_argument("--npm", nargs=argparse.REMAINDER, help="then run npm with these words")
    options = parser.parse_args(arguments)
    try:
        make_venv()
        uv, stamps = find_uv(), Stamps()
        install_packages(uv, stamps)
        npm = find_npm(uv)
        build_dashboard(npm, stamps)
        if options.npm:
            install_web_packages(npm, stamps)
            run(npm, *options.npm, cwd=WEB)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
