"""The build hook: no wheel without the dashboard."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def hook(tmp_path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.DashboardHook(str(tmp_path), {}, None, None, str(tmp_path), "wheel")


def test_a_wheel_without_the_dashboard_is_refused_with_the_command_to_run(hook: Any) -> None:
    with pytest.raises(SystemExit, match="make web"):
        hook.initialize("standard", {})


def test_a_wheel_with_the_dashboard_is_built(hook: Any, tmp_path: Path) -> None:
    page = tmp_path / "src/headrace/gateway/dashboard/index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<!doctype html>")

    hook.initialize("standard", {})


def test_an_editable_install_needs_no_dashboard(hook: Any) -> None:
    hook.initialize("editable", {})
