"""Build the wheel, install it into an empty environment, start it there and ask for its page."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
import venv
import zipfile
from pathlib import Path

from prepare import ROOT, environment, find_uv

PAGE = "headrace/gateway/dashboard/index.html"


def build(folder: Path) -> Path:
    """Build the wheel into `folder` with the locked back end and return its path."""
    command = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    subprocess.run(command, cwd=ROOT, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def check_contents(wheel: Path) -> None:
    """Check that page, typing marker and licence are inside, tests and sources of web/ are not.

    Raises:
        SystemExit: They are not.
    """
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (PAGE, "headrace/py.typed", "licenses/LICENSE"):
        if not any(name.endswith(wanted) for name in names):
            raise SystemExit(f"{wheel.name} lacks {wanted}")
    strays = [name for name in names if not name.startswith(("headrace/", "headrace-"))]
    if strays:
        raise SystemExit(f"{wheel.name} holds what it should not: {', '.join(strays[:5])}")


def install(wheel: Path, folder: Path) -> Path:
    """Install the locked run-time packages and the wheel into a new environment."""
    venv.create(folder)
    python = folder / "bin/python"
    pip = (str(find_uv()), "pip", "install", "--quiet", "--python", str(python))
    lock = ("--require-hashes", "-r", str(ROOT / "requirements/run.txt"))
    env = environment(os.environ)
    subprocess.run((*pip, *lock), env=env, check=True)
    subprocess.run((*pip, "--no-deps", str(wheel)), env=env, check=True)
    return folder / "bin"


def ask_for_the_page(headrace: Path, folder: Path) -> None:
    """Run the demonstration and fetch the dashboard from it.

    Raises:
        SystemExit: It ended before it was ready, or what it serves is not the dashboard.
    """
    command = (str(headrace), "demo", "--port", "0", "--for", "120s", "--no-browser")
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as demo:
        found = next(
            filter(None, (re.search(r"http://\S+", line) for line in demo.stdout or ())), None
        )
        if found is None:
            raise SystemExit(f"the installed demonstration ended early, exit {demo.wait()}")
        with urllib.request.urlopen(found[0], timeout=30) as answer:  # noqa: S310 - our own address
            page = answer.read().decode()
        demo.send_signal(signal.SIGTERM)
    if demo.returncode or "<script" not in page:
        raise SystemExit(f"no dashboard at {found[0]}, exit {demo.returncode}")
    print(f"the installed demonstration served its page at {found[0]}")


def main() -> None:
    """Build, look inside, install, and run the application with nothing else there."""
    with tempfile.TemporaryDirectory() as box:
        wheel = build(Path(box) / "dist")
        check_contents(wheel)
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB", flush=True)
        headrace = install(wheel, Path(box) / "empty") / "headrace"
        ask_for_the_page(headrace, Path(box))


if __name__ == "__main__":
    main()
