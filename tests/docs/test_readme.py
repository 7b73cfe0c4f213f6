"""The README's code runs as printed, and its commands exist."""

import contextlib
import io
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_the_example_prints_what_the_readme_says() -> None:
    (code,) = blocks("python")
    (expected,) = blocks("text")
    printed = io.StringIO()

    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})  # noqa: S102 - our own text

    assert printed.getvalue() == expected


def test_every_make_target_named_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = {
        target
        for block in blocks("sh")
        for target in re.findall(r"^make (\w+)", block, re.MULTILINE)
    }

    assert {"demo", "test"} <= named
    assert [name for name in sorted(named) if f"\n{name}:" not in makefile] == []


def test_every_picture_is_there() -> None:
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README)

    assert len(pictures) == 1
    assert [name for name in pictures if not (ROOT / name).is_file()] == []
