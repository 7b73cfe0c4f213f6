"""The pages say what the code has: every error, setting and command; every link leads on."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from headrace.core import errors
from headrace.core.errors import EXIT_CODES, HTTP_STATUSES, HeadraceError
from headrace.core.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CONTRIBUTING", "CHANGELOG")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def error_classes() -> list[type[HeadraceError]]:
    found = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    return [kind for kind in found if issubclass(kind, HeadraceError)]


def setting_names(model: type[BaseModel], prefix: str = "HEADRACE_") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from setting_names(field.annotation, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}"


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.__name__)
def test_every_error_is_in_the_list_of_errors(kind: type[HeadraceError]) -> None:
    assert f"| {kind.code} | `{kind.__name__}` |" in page("errors.md")


def test_no_two_errors_share_a_code() -> None:
    codes = [kind.code for kind in error_classes()]

    assert sorted(codes) == sorted(set(codes))


def test_the_list_of_errors_has_the_codes_and_statuses_of_each_blame() -> None:
    text = page("errors.md")

    for blame, code in EXIT_CODES.items():
        row = rf"\| `{blame}` \|.*\| {code} \| {HTTP_STATUSES[blame]} \|"
        assert re.search(row, text), blame


@pytest.mark.parametrize("name", list(setting_names(Settings)))
def test_every_setting_is_described(name: str) -> None:
    assert f"`{name}`" in page("operations.md")


def test_no_setting_is_described_that_is_not_there() -> None:
    named = set(re.findall(r"^\| `(HEADRACE_\w+)`", page("operations.md"), re.MULTILINE))

    assert named == set(setting_names(Settings))


def test_every_command_is_described() -> None:
    from headrace.cli.main import app

    commands = [
        command.name or str(command.callback and command.callback.__name__)
        for command in app.registered_commands
    ]

    assert [name for name in commands if f"`headrace {name}" not in page("operations.md")] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_inside_the_project_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)", path.read_text())

    assert [link for link in links if not (path.parent / link).exists()] == []
