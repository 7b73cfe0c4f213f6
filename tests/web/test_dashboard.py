"""The dashboard, as a person uses it."""

from __future__ import annotations

import os
import re
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from playwright.sync_api import Browser, Locator, Page, WebSocketRoute, expect

from tests.web.conftest import Complaints
from tests.web.demo import CHROMIUM_FLAGS, demo

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(300),
]

Corners = list[list[float]]
MOVING = "auv-0001"  # the simulator's first vehicle


def hero(page: Page) -> Locator:
    """The map itself."""
    return page.get_by_role("application")


def choose(page: Page, name: str) -> None:
    """Find something with the search and open it."""
    page.keyboard.press("/")
    page.get_by_role("combobox", name="Search vehicles, zones and views").fill(name)
    page.get_by_role("option").first.click()


def square(lon: float, lat: float, half: float = 0.2) -> dict[str, Any]:
    """A zone's outline around a place."""
    ring = [
        [lon - half, lat - half],
        [lon + half, lat - half],
        [lon + half, lat + half],
        [lon - half, lat + half],
        [lon - half, lat - half],
    ]
    return {"type": "Polygon", "coordinates": [ring]}


@pytest.fixture
def zone(demo_url: str) -> dict[str, Any]:
    """A zone of this test's own that nobody may enter, far from all others."""
    row = {
        "zone_id": f"test-{uuid4().hex[:8]}",
        "name": f"Test {uuid4().hex[:6]}",
        "kind": "no_entry",
        "severity": "critical",
        "geometry": square(-30.0, 10.0),
    }
    httpx2.post(f"{demo_url}/zones", json=row).raise_for_status()
    return row


def report(url: str, auv_id: str, lon: float, lat: float) -> None:
    """Send one position, as of now."""
    body = {
        "auv_id": auv_id,
        "latitude": lat,
        "longitude": lon,
        "depth": 12.0,
        "timestamp": datetime.now(UTC).isoformat(),
    }
    httpx2.post(f"{url}/telemetry", json=body).raise_for_status()


def test_the_page_shows_every_view_that_the_app_declares(page: Page, demo_url: str) -> None:
    views = httpx2.get(f"{demo_url}/app").json()["views"]

    for view in views:
        expect(page.locator(f"#view-{view['name']} h2")).to_contain_text(view["title"])


def test_vehicles_move_on_the_map(page: Page) -> None:
    choose(page, MOVING)
    position = page.locator("[data-fact=position]")
    first = position.inner_text()

    expect(position).not_to_have_text(first)


def test_the_drawing_of_the_map_changes_with_the_vehicles(page: Page) -> None:
    expect(hero(page)).to_have_attribute("aria-label", re.compile(r"with [1-9]\d* vehicles"))
    drawn = "() => document.querySelector('[role=application] > canvas:last-of-type').toDataURL()"
    before = page.evaluate(drawn)

    page.wait_for_function(f"before => ({drawn})() !== before", arg=before)


def test_an_entry_lights_its_zone_and_heads_the_violations(
    page: Page, demo_url: str, zone: dict[str, Any]
) -> None:
    auv_id = f"auv-{uuid4().hex[:8]}"
    violations = page.get_by_role("list", name="Violations, newest first")

    report(demo_url, auv_id, -31.0, 10.0)
    report(demo_url, auv_id, -30.0, 10.0)

    expect(violations.get_by_role("listitem").filter(has_text=auv_id)).to_contain_text("critical")
    expect(hero(page)).to_have_attribute("aria-label", re.compile(r"[1-9]\d* with somebody inside"))
    choose(page, zone["name"])
    inside = page.get_by_role("complementary", name=f"Zone {zone['name']}")
    expect(inside).to_contain_text("Inside now: 1")
    expect(inside.get_by_role("button", name=auv_id)).to_be_visible()


def test_a_vehicles_panel_tells_its_zones_depth_and_alerts(
    page: Page, demo_url: str, zone: dict[str, Any]
) -> None:
    auv_id = f"auv-{uuid4().hex[:8]}"
    report(demo_url, auv_id, -31.0, 10.0)
    report(demo_url, auv_id, -30.0, 10.0)
    expect(page.get_by_role("listitem").filter(has_text=auv_id).first).to_be_visible()

    choose(page, auv_id)

    panel = page.get_by_role("complementary", name=f"Vehicle {auv_id}")
    expect(panel).to_contain_text("10.0000°\u2009N 30.0000°\u2009W")
    expect(panel.get_by_role("button", name=zone["name"])).to_be_visible()
    expect(panel.get_by_role("heading", name="Violations")).to_be_visible()
    expect(panel).to_contain_text(f"{auv_id} entered")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()


def test_the_theme_is_switched_and_kept(page: Page) -> None:
    ground = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)

    page.get_by_role("button", name="Theme: auto").click()
    page.get_by_role("button", name="Theme: light").click()
    dark = page.evaluate(ground)
    page.reload()

    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert page.evaluate(ground) == dark != light


def test_the_keyboard_reaches_help_views_search_and_pause(page: Page) -> None:
    page.keyboard.press("?")
    help_ = page.get_by_role("dialog", name="Keyboard")
    expect(help_).to_contain_text("Go to Violations")
    letter = help_.locator("dt", has=page.locator("kbd", has_text="g")).nth(1).locator("kbd").nth(1)
    target = letter.inner_text()
    page.keyboard.press("Escape")
    expect(help_).to_be_hidden()

    page.keyboard.press("g")
    page.keyboard.press(target)
    assert page.evaluate("() => document.activeElement.id").startswith("view-")

    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("Space")
    expect(page.get_by_text("Paused.")).to_be_visible()
    page.keyboard.press("Space")
    expect(page.get_by_text("Paused.")).to_be_hidden()


def test_a_key_counts_as_soon_as_the_page_shows(browser: Browser, demo_url: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    # A mutation is told before the browser draws or runs anything else.
    page.add_init_script(
        """new MutationObserver((_, observer) => {
             if (document.querySelector("h1") === null) return;
             observer.disconnect();
             document.dispatchEvent(new KeyboardEvent("keydown", { key: "?" }));
           }).observe(document, { childList: true, subtree: true });"""
    )

    page.goto(demo_url)

    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    context.close()


def test_a_paused_page_holds_still_and_then_goes_on(page: Page) -> None:
    choose(page, MOVING)
    position = page.locator("[data-fact=position]")
    page.get_by_role("button", name="Live: pause (space)").click()
    held = position.inner_text()

    expect(page.get_by_text(re.compile(r"[1-9][\d\u2009]* rows waiting"))).to_be_visible()
    assert position.inner_text() == held
    page.get_by_role("button", name="Go on", exact=True).click()
    expect(position).not_to_have_text(held)


def test_a_dropped_socket_is_shown_and_the_page_catches_up(browser: Browser, demo_url: str) -> None:
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page = context.new_page()
    routes: list[WebSocketRoute] = []
    refuse = False

    def through(route: WebSocketRoute) -> None:
        if refuse:
            route.close(code=1013)
            return
        routes.append(route)
        route.connect_to_server()

    page.route_web_socket(re.compile(r"/ws$"), through)
    page.goto(demo_url)
    expect(page.get_by_role("status", name="Connection: connected")).to_be_visible()
    expect(hero(page)).to_have_attribute("aria-label", re.compile(r"with [1-9]\d* vehicles"))

    refuse = True
    routes[0].close(code=1012)
    expect(page.get_by_text("Connection lost")).to_be_visible()
    expect(page.get_by_text("stale", exact=False).first).to_be_visible()
    expect(hero(page)).to_have_attribute("aria-label", re.compile(r"with [1-9]\d* vehicles"))
    refuse = False

    expect(page.get_by_text(re.compile(r"Caught up [1-9][\d\u2009]* rows?"))).to_be_visible()
    expect(page.get_by_role("status", name="Connection: connected")).to_be_visible()
    assert len(routes) == 2
    context.close()


def test_a_table_is_filtered_by_the_gateway(page: Page) -> None:
    view = page.locator("#view-visits")
    field = view.get_by_role("searchbox", name="Filter: an SQL condition")
    expect(view.get_by_role("row").nth(1)).to_be_visible()

    field.fill("dwell_s < 0")
    field.press("Enter")
    expect(view).to_contain_text("No row matches dwell_s < 0.")
    field.fill("dwell_s >= 0")
    field.press("Enter")
    expect(view.get_by_role("row").nth(1)).to_be_visible()


def test_a_filter_that_cannot_be_read_says_why(page: Page) -> None:
    view = page.locator("#view-visits")
    field = view.get_by_role("searchbox", name="Filter: an SQL condition")

    field.fill("no_such_column > 1")
    field.press("Enter")

    expect(view.get_by_role("alert")).to_contain_text("no_such_column")


def test_a_table_is_sorted_copied_and_downloaded(page: Page) -> None:
    view = page.locator("#view-visits")
    header = view.get_by_role("columnheader", name="dwell_s")
    expect(view.get_by_role("row").nth(1)).to_be_visible()

    header.get_by_role("button").click()
    expect(header).to_have_attribute("aria-sort", "ascending")
    header.get_by_role("button").click()
    expect(header).to_have_attribute("aria-sort", "descending")
    with page.expect_download() as download:
        view.get_by_role("button", name="CSV").click()
    lines = download.value.path().read_text().splitlines()

    assert lines[0].startswith("auv_id,zone_id,")
    assert len(lines) > 1


def test_a_zone_is_reshaped_undone_and_saved(
    page: Page, demo_url: str, zone: dict[str, Any]
) -> None:
    choose(page, zone["name"])
    page.get_by_role("button", name="Edit zone").click()
    corner = page.get_by_role("button", name="Corner 1:", exact=False)
    save = page.get_by_role("button", name="Save")
    expect(save).to_be_disabled()
    # The camera glides to the zone first.
    page.wait_for_function(
        """() => {
          const box = document.querySelector('[aria-label^="Corner 1:"]').getBoundingClientRect();
          const before = window.lastBox;
          window.lastBox = `${box.x},${box.y}`;
          return before === window.lastBox;
        }""",
        polling=300,
    )
    box = corner.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 6, box["y"] + 6)
    page.mouse.down()
    page.mouse.move(box["x"] - 30, box["y"] + 40, steps=4)
    page.mouse.up()
    expect(save).to_be_enabled()
    page.get_by_role("button", name="Undo").click()
    expect(save).to_be_disabled()
    page.get_by_role("button", name="Redo").click()
    page.get_by_label("Max depth m").fill("150")
    save.click()

    expect(page.get_by_role("button", name="Edit zone")).to_be_visible()
    stored = httpx2.get(f"{demo_url}/control/zones/{zone['zone_id']}").json()
    row = stored.get("row", stored)
    corners: Corners = row["geometry"]["coordinates"][0]
    assert row["max_depth_m"] == 150
    assert corners[0] == corners[-1] != zone["geometry"]["coordinates"][0][0]
    assert corners[1] == zone["geometry"]["coordinates"][0][1]


def test_a_zone_that_crosses_itself_is_not_saved(page: Page, zone: dict[str, Any]) -> None:
    choose(page, zone["name"])
    page.get_by_role("button", name="Edit zone").click()
    page.get_by_text("Corners as text").click()
    text = page.get_by_label("Corners of the outer ring", exact=False)
    text.fill("0, 0\n4, 4\n4, 0\n0, 4")
    text.blur()

    expect(page.get_by_role("alert")).to_contain_text("crosses itself")
    expect(page.get_by_role("button", name="Save")).to_be_disabled()


def test_a_new_zone_is_drawn_on_the_map(page: Page, demo_url: str) -> None:
    zone_id = f"drawn-{uuid4().hex[:8]}"
    box = hero(page).bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 3, box["y"] + box["height"] / 2
    page.get_by_role("button", name="Draw a new zone").click()
    panel = page.get_by_role("complementary", name="New zone")
    expect(panel).to_contain_text("Click on the map for each corner")

    page.mouse.click(x, y)
    page.mouse.click(x + 120, y)
    page.mouse.dblclick(x + 60, y - 90)
    expect(panel).to_contain_text("Drag corners")
    panel.get_by_label("Zone id").fill(zone_id)
    panel.get_by_label("Name").fill("Drawn by hand")
    panel.get_by_role("button", name="Save").click()

    expect(page.get_by_role("complementary", name="Zone Drawn by hand")).to_be_visible()
    row = httpx2.get(f"{demo_url}/control/zones/{zone_id}").json()
    corners: Corners = row["geometry"]["coordinates"][0]
    assert len(corners) == 4
    assert corners[0] == corners[-1]


@pytest.fixture
def rule(demo_url: str) -> str:
    """A rule of this test's own that no vehicle can break yet."""
    rule_id = f"test-{uuid4().hex[:8]}"
    row = {"rule_id": rule_id, "condition": "depth_m > 9000", "message": rule_id + " {auv_id}"}
    httpx2.post(f"{demo_url}/control/rules", json=row).raise_for_status()
    return rule_id


def rows_of(url: str, topic: str) -> list[dict[str, Any]]:
    """Read a whole topic."""
    rows: list[dict[str, Any]] = []
    place: dict[str, str] = {}
    while True:
        answer = httpx2.get(f"{url}/topics/{topic}", params={"limit": "1000", **place})
        page = answer.raise_for_status().json()
        rows += page["rows"]
        if page["next"] == page["end"]:
            return rows
        place = {"from": page["next"]}


def test_a_rule_changed_on_the_page_judges_every_row_from_then_on(
    page: Page, demo_url: str, rule: str
) -> None:
    rules = page.locator("#view-rules")
    rules.get_by_role("button", name=rule).click()
    form = rules.get_by_role("form", name=f"Edit {rule}")
    form.get_by_role("textbox", name="Condition", exact=True).fill("depth_m > 5")
    form.get_by_role("button", name="Save").click()
    expect(rules.get_by_role("row", name=rule)).to_contain_text("depth_m > 5")

    alerts = page.locator("#view-alerts")
    expect(alerts.get_by_text(f"{rule} auv-", exact=False).first).to_be_visible()
    found = [row for row in rows_of(demo_url, "broken_rules") if row["rule_id"] == rule]
    first, last = found[0]["time"], found[-1]["time"]
    deep = [
        (row["time"], row["auv_id"])
        for row in rows_of(demo_url, "positions")
        if first < row["time"] < last and (row["depth_m"] or 0) > 5
    ]
    judged = [(row["time"], row["auv_id"]) for row in found if first < row["time"] < last]
    assert {row["rule_version"] for row in found} == {2}
    assert sorted(judged) == sorted(deep)


def test_a_rule_that_cannot_be_judged_is_not_saved(
    page: Page, rule: str, complaints: Complaints
) -> None:
    rules = page.locator("#view-rules")
    rules.get_by_role("button", name=rule).click()
    rules.get_by_role("textbox", name="Condition", exact=True).fill("depht_m > 5")
    rules.get_by_role("button", name="Save").click()

    expect(rules.get_by_role("alert")).to_contain_text("no column 'depht_m' at character 1")
    complaints.forgive("422")


def test_a_rule_is_added_and_deleted_on_the_page(page: Page, demo_url: str) -> None:
    rule_id = f"new-{uuid4().hex[:8]}"
    rules = page.locator("#view-rules")
    rules.get_by_role("button", name="Add").click()
    rules.get_by_role("textbox", name="Rule id").fill(rule_id)
    rules.get_by_role("textbox", name="Condition", exact=True).fill("speed_ms > 90")
    rules.get_by_role("textbox", name="Severity").fill("high")
    rules.get_by_role("button", name="Save").click()
    expect(rules.get_by_role("row", name=rule_id)).to_contain_text("high")
    stored = httpx2.get(f"{demo_url}/control/rules/{rule_id}").json()

    page.once("dialog", lambda dialog: dialog.accept())
    rules.get_by_role("button", name=rule_id).click()
    rules.get_by_role("button", name="Delete").click()
    expect(rules.get_by_role("row", name=rule_id)).to_have_count(0)

    assert (stored["severity"], stored["enabled"]) == ("high", True)
    assert httpx2.get(f"{demo_url}/control/rules/{rule_id}").status_code == 404


def test_rows_that_were_refused_are_counted_and_their_reasons_linked(
    page: Page, demo_url: str
) -> None:
    now = datetime.now(UTC).isoformat()
    body = {"auv_id": "lost", "latitude": 136.0, "longitude": 0.0, "timestamp": now}
    httpx2.post(f"{demo_url}/telemetry", json=body)
    losses = page.locator("summary", has_text="dead")
    expect(losses).to_contain_text(re.compile(r"dead [1-9]"))

    losses.click()

    link = page.get_by_role("link", name="Reasons: /topics/positions.dead")
    address = link.get_attribute("href")
    assert address is not None
    reasons = [row["reason"] for row in httpx2.get(address).json()["rows"]]
    assert any("latitude" in reason for reason in reasons)


def test_a_stretch_of_time_is_zoomed_in_all_charts_at_once(page: Page) -> None:
    charts = page.locator(".u-over")
    expect(charts.first).to_be_visible()
    box = charts.first.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.4, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, middle, steps=4)
    page.mouse.up()

    axis = page.get_by_role("group", name="Time axis of all charts")
    expect(axis).to_contain_text(re.compile(r"\d\d:\d\d:\d\d.\d\d:\d\d:\d\d UTC"))
    axis.get_by_role("button", name="Back to now").click()
    expect(axis.get_by_role("button", pressed=True)).to_be_visible()


def test_two_editors_of_one_zone_do_not_overwrite_each_other(
    page: Page, demo_url: str, zone: dict[str, Any], complaints: Complaints
) -> None:
    choose(page, zone["name"])
    page.get_by_role("button", name="Edit zone").click()
    page.get_by_label("Name").fill("Mine")
    httpx2.put(
        f"{demo_url}/control/zones/{zone['zone_id']}", json={**zone, "name": "Theirs"}
    ).raise_for_status()

    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("Somebody changed this zone")
    page.get_by_role("button", name="Replace with mine").click()

    expect(page.get_by_role("complementary", name="Zone Mine")).to_be_visible()
    complaints.forgive("412")


def test_everything_has_a_name_and_a_place(page: Page) -> None:
    expect(page.get_by_role("row").nth(1)).to_be_visible()
    nameless = page.evaluate(
        """() => {
          const named = (element) =>
            element.getAttribute("aria-label") || element.getAttribute("aria-labelledby")
            || element.textContent.trim() || element.title
            || (element.id && document.querySelector(`label[for="${element.id}"]`));
          const wanted = "button, a, input, select, textarea, [role=img], [role=application],"
            + " [role=table], [role=dialog], [role=listbox], main section";
          return [...document.querySelectorAll(wanted)]
            .filter((element) => !named(element)).map((element) => element.outerHTML.slice(0, 120));
        }"""
    )
    ids = page.evaluate("() => [...document.querySelectorAll('[id]')].map(({ id }) => id)")

    assert nameless == []
    assert len(ids) == len(set(ids))
    expect(page.get_by_role("main")).to_have_count(1)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    assert page.evaluate("() => document.documentElement.lang") == "en"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_enough_contrast(page: Page, theme: str) -> None:
    page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    ratios: dict[str, float] = page.evaluate(
        """() => {
          const probe = document.createElement("i");
          document.body.append(probe);
          const light = (token) => {
            probe.style.color = `var(--${token})`;
            const [r, g, b] = getComputedStyle(probe).color.match(/[\\d.]+/g).map((part) => {
              const c = Number(part) / 255;
              return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
            });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const out = {};
          const text = ["text", "muted", "accent", "info", "warning", "high", "critical"];
          for (const under of ["ground", "surface", "raised", "sunken", "hover"]) {
            for (const over of text) {
              const [a, b] = [light(over), light(under)].sort((x, y) => y - x);
              out[`${over} on ${under}`] = (a + 0.05) / (b + 0.05);
            }
          }
          for (const [over, under] of [["map-text", "sea"], ["map-text", "land"],
                                       ["on-accent", "accent"], ["vehicle", "sea"]]) {
            const [a, b] = [light(over), light(under)].sort((x, y) => y - x);
            out[`${over} on ${under}`] = (a + 0.05) / (b + 0.05);
          }
          return out;
        }"""
    )

    assert {pair: ratio for pair, ratio in ratios.items() if ratio < 4.5} == {}


def test_a_phone_gets_one_column_without_sideways_scrolling(
    browser: Browser, demo_url: str
) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = context.new_page()
    page.goto(demo_url)
    expect(hero(page)).to_have_attribute("aria-label", re.compile(r"with [1-9]\d* vehicles"))

    lefts = page.evaluate(
        "() => [...document.querySelectorAll('[data-view]')]"
        ".map((view) => Math.round(view.getBoundingClientRect().left))"
    )
    wide = page.evaluate("() => document.documentElement.scrollWidth")

    assert set(lefts) == {8}
    assert wide <= 390
    context.close()


def test_without_webgl_the_map_is_plain_but_there(
    browser: Browser, chromium: str, demo_url: str
) -> None:
    flags = [flag for flag in CHROMIUM_FLAGS if not flag.startswith(("--use-", "--enable-"))]
    other = browser.browser_type.launch(
        executable_path=chromium, args=[*flags, "--disable-3d-apis"]
    )
    page = other.new_page()
    page.goto(demo_url)

    expect(page.locator("[data-surface=plain]")).to_be_visible()
    expect(hero(page)).to_have_attribute("aria-label", re.compile(r"with [1-9]\d* vehicles"))
    painted = page.wait_for_function(
        """() => {
          const canvas = document.querySelector("[role=application] div canvas");
          if (!canvas) return 0;
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          const seen = new Set();
          for (let at = 0; at < data.length; at += 4) {
            seen.add((data[at] << 16) | (data[at + 1] << 8) | data[at + 2]);
          }
          return seen.size > 3 ? seen.size : 0;
        }"""
    )

    assert painted.json_value() > 3
    other.close()


def test_an_engine_without_a_sign_of_life_makes_the_page_stale(
    browser: Browser, tmp_path: Path
) -> None:
    with demo(tmp_path, vehicles=5) as url:
        page = browser.new_page()
        page.goto(url)
        expect(hero(page)).to_have_attribute("aria-label", re.compile(r"with [1-9]\d* vehicles"))
        engine = int(httpx2.get(f"{url}/health").json()["checks"]["engine"]["pid"])

        os.kill(engine, signal.SIGSTOP)
        try:
            expect(page.get_by_text("The engine does not work")).to_be_visible()
            expect(page.get_by_text(re.compile("^stale")).first).to_be_visible()
        finally:
            os.kill(engine, signal.SIGCONT)
        expect(page.get_by_text("The engine does not work")).to_be_hidden()
        page.close()
