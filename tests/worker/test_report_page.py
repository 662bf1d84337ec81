"""The report's page in a real browser: nothing is loaded, nothing is cut off, and a narrow screen does not scroll sideways."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright

from runbooks.report_case import row_of_case
from runbooks.report_incident import Replayed, row_of_incident
from runbooks.report_rows import Row
from tests.runbooks.report_lab import GROUPS, incident, replayed
from tests.worker.report_cases import weeks
from worker.report import whole
from worker.report_page import page
from worker.report_read import Found

CHROMIUM = "/usr/bin/chromium"
CUT_OFF = """() => [...document.querySelectorAll('figure svg')].flatMap(svg => {
  const box = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter(text => {
    const t = text.getBoundingClientRect();
    return t.width && (t.left < box.left - 2 || t.right > box.right + 2 || t.top < box.top - 2 || t.bottom > box.bottom + 2);
  }).map(text => text.textContent);
})"""
"""Labels that reach out of their plot."""
SIDEWAYS = "() => document.documentElement.scrollWidth - window.innerWidth"


def labelled() -> list[Row]:
    """Every class once right and some wrong, with names as long as there are."""
    classes = sorted(GROUPS)
    pairs = [*((c, c) for c in classes), *pairwise(classes)]
    rows = []
    for n, (truth, found) in enumerate(pairs):
        name, refused = f"incident-{n}", [{"lever": "recycle_connections", "gate": f"G{n % 16 + 1}", "why": "why"}]
        about = incident(name, truth={"failure_class": truth, "group": GROUPS[truth]})
        done = Replayed.model_validate(replayed(name, truth_class=truth, **{"class": found}, refused=refused))
        rows.append(row_of_incident(about, done, GROUPS))
    return rows


def told() -> list[Row]:
    return [row_of_case(record, [], GROUPS) for record in weeks()]


@pytest.fixture
async def tab() -> AsyncIterator[Page]:
    """A tab of Debian's Chromium."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = await browser.new_context()
        yield await context.new_page()
        await context.close()
        await browser.close()


@pytest.mark.parametrize(
    ("width", "rows"), [(1200, told()), (400, told()), (1200, labelled()), (400, labelled()), (1200, [])]
)
async def test_the_page_is_whole_in_a_browser(tab: Page, tmp_path: Path, width: int, rows: list[Row]) -> None:
    """A month of cases; every class of the taxonomy in one matrix; and nothing at all."""
    problems: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    file = tmp_path / "page.html"
    file.write_text(page(whole(Found(rows, {}), "a test"), rows), encoding="utf-8")
    await tab.set_viewport_size({"width": width, "height": 900})
    await tab.goto(file.as_uri())
    await tab.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")

    assert (problems, asked) == ([], [file.as_uri()])
    assert await tab.evaluate(CUT_OFF) == []
    assert await tab.evaluate(SIDEWAYS) <= 0
    assert await tab.locator("figure").count() == (0 if not rows else 6 if rows[0].truth else 5)
    assert await tab.locator("figure:not([aria-label])").count() == 0
    assert await tab.locator("h1").inner_text() == "Interlock report"
