"""Build hook: a wheel without the dashboard is not headrace."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

DASHBOARD = Path("src/headrace/gateway/dashboard")


class DashboardHook(BuildHookInterface[Any]):
    """Stops the build of a wheel into which the built dashboard could not be packed."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Check that the page is there; an editable install serves it from the tree instead.

        Raises:
            SystemExit: `src/headrace/gateway/dashboard/index.html` is missing.
        """
        del build_data
        page = Path(self.root) / DASHBOARD / "index.html"
        if version != "editable" and not page.is_file():
            message = f"{DASHBOARD} holds no index.html: the dashboard is not built; run `make web`"
            raise SystemExit(message)
