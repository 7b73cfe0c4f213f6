"""Setting up the working tree: what it hands on, and when it works again."""

from pathlib import Path

import prepare
import pytest


def test_settings_for_pip_reach_uv_and_node() -> None:
    env = prepare.environment({"PIP_INDEX_URL": "http://mirror.test/simple", "PIP_CERT": "/ca.pem"})

    assert env["UV_DEFAULT_INDEX"] == "http://mirror.test/simple"
    assert env["SSL_CERT_FILE"] == env["NODE_EXTRA_CA_CERTS"] == "/ca.pem"


def test_a_setting_made_for_uv_wins_over_the_one_for_pip() -> None:
    env = prepare.environment({"PIP_CERT": "/pip.pem", "SSL_CERT_FILE": "/uv.pem"})

    assert env["SSL_CERT_FILE"] == "/uv.pem"


def test_programs_of_the_environment_come_first() -> None:
    env = prepare.environment({"PATH": "/usr/bin"})

    assert env["PATH"].split(":") == [str(prepare.BIN), "/usr/bin"]


def test_a_step_runs_again_only_when_its_inputs_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "STAMPS", tmp_path / "stamps.json")
    prepare.Stamps().done("packages", "one")

    stamps = prepare.Stamps()

    assert stamps.current("packages", "one")
    assert not stamps.current("packages", "two")
    assert not stamps.current("dashboard", "one")


def test_the_digest_follows_names_and_contents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "ROOT", tmp_path)
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("a")
    two.write_text("a")

    seen = {prepare.digest([one]), prepare.digest([two]), prepare.digest([one, two])}
    one.write_text("b")

    assert len(seen | {prepare.digest([one])}) == 4
    assert prepare.digest([one, two]) == prepare.digest([two, one])


def test_what_is_built_does_not_depend_on_installed_packages_or_tests() -> None:
    sources = {str(path.relative_to(prepare.WEB)) for path in prepare.web_sources()}

    assert {"package-lock.json", "vite.config.ts", "index.html"} <= sources
    assert not [name for name in sources if name.startswith(("node_modules", "tests"))]
