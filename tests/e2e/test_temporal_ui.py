"""Approving in Temporal's own UI, with a real Chromium: what the on-call SRE sees, and what his click does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any
from urllib.parse import quote

import pytest
from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Locator, Page, async_playwright
from temporalio.client import Client, WorkflowHandle

from runbooks.detection import Target
from runbooks.policy import ClassPolicy
from runbooks.safety import GATES
from tests import lab as labs
from tests.e2e.conftest import Ports
from tests.scenarios.test_engine_crash import lose, weights

CHROMIUM = "/usr/bin/chromium"
MODAL = "[data-testid=confirm-modal-button]"


@pytest.fixture
async def tab() -> AsyncIterator[Page]:
    """A tab of Debian's Chromium."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = await browser.new_context(viewport={"width": 1500, "height": 1100})
        yield await context.new_page()
        await context.close()
        await browser.close()


class RunPage:
    """The page of one workflow in Temporal's UI."""

    def __init__(self, tab: Page, ui: str, handle: WorkflowHandle[Any, Any], run_id: str) -> None:
        self.tab = tab
        self.handle = handle
        self.url = f"http://{ui}/namespaces/default/workflows/{quote(handle.id, safe='')}/{run_id}"

    async def shows(self, *words: str) -> str:
        """Opens or refreshes the User Metadata tab until its details show all the words; returns their text."""
        if not self.tab.url.startswith(self.url):
            await self.tab.goto(f"{self.url}/user-metadata")
        last = ""

        async def found() -> bool:
            nonlocal last
            await self.tab.keyboard.press("r")  # as the tab itself says: details are not live
            await asyncio.sleep(0.5)
            with contextlib.suppress(PlaywrightError):  # a frame that was just replaced by its newer self
                frames = self.tab.frames[1:]  # Markdown is rendered in frames of its own
                last = "\n".join([await frame.inner_text("body", timeout=1000) for frame in frames])
            return all(word in last for word in words)

        try:
            await labs.until(found, f"the page shows {words}", 20)
        except AssertionError as error:
            raise AssertionError(f"{error}; it shows:\n{last}") from None
        return last

    async def send_signal(self, name: str, payload: str) -> None:
        """More Actions → Send a Signal → the handler → JSON → Submit, until the signal is in the history.

        The editor reformats on blur and moves the button, so a click can get lost; and on a busy machine the dialog can
        stay open after its signal was sent. What counts is what the server has.
        """
        before = await self.signals(name)

        async def sent() -> bool:
            return await self.signals(name) > before

        for _ in range(3):
            await self._fill(name, payload)
            submit = self.tab.locator(MODAL).locator("visible=true").filter(has_text="Submit").first
            with contextlib.suppress(AssertionError):
                await labs.until(lambda s=submit: self._click(s, sent), "the signal is sent", 10)  # type: ignore[misc]
            await self.tab.reload()
            if await sent():
                return
        raise AssertionError(f"three times the dialog did not send {name}")

    async def _fill(self, name: str, payload: str) -> None:
        tab = self.tab
        await tab.get_by_role("button", name="More Actions").locator("visible=true").first.click()
        await tab.get_by_role("menuitem", name="Send a Signal").locator("visible=true").first.click()
        await tab.locator("[data-testid=signal-select-button]").locator("visible=true").first.click()
        await tab.locator("[role=option]").locator("visible=true").filter(has_text=name).first.click()
        editor = tab.locator("dialog[open] .cm-content").first
        await editor.click()
        await tab.keyboard.press("Control+a")  # the dialog keeps what was sent before
        await tab.keyboard.insert_text(payload)

    async def _click(self, submit: Locator, sent: Callable[[], Awaitable[bool]]) -> bool:
        if await sent():
            return True
        with contextlib.suppress(PlaywrightError):  # gone, or disabled while it sends
            await submit.click(timeout=1000)
        await asyncio.sleep(0.5)
        return await sent()

    async def signals(self, name: str) -> int:
        """Signals of this name in the case's history."""
        events = (await self.handle.fetch_history()).events
        return len([e for e in events if e.workflow_execution_signaled_event_attributes.signal_name == name])


async def test_a_person_approves_in_the_temporal_ui_and_a_wrong_decision_is_explained_there(
    lab: labs.Lab, ports: Ports, tab: Page, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The page shows the proposal; a wrong digest is answered on it; the JSON that it shows moves Envoy's weights."""
    shots = tmp_path_factory.mktemp("screenshots")
    async with labs.running_worker(lab.parts()):
        await lose(lab, "a0", "a1")
        detection = lab.lost("chat-a", 1)
        handle = await lab.start(detection)
        waiting = (await lab.in_state(handle, "waiting_approval"))["waiting"]
        page = RunPage(tab, ports.ui, handle, (await handle.describe()).run_id)

        asked = await page.shows("waiting approval", "Approve reroute_traffic?")
        await tab.screenshot(path=shots / "1-proposal.png")

        for words in (
            "moves traffic of route chat away from chat-a",
            "weight/chat/chat-a 50 → 25",
            "1 of group sre-oncall",
            f"{datetime.fromisoformat(waiting['expires_at']):%H:%M:%S} UTC",
            "G7 ASK: policy wants 1 of group sre-oncall to approve",
            "endpoints = 3 (rule: endpoints >= 1)",
        ):
            assert words in asked, asked
        assert set(re.findall(r"^\W*(G\d+) ", asked, re.MULTILINE)) == {
            gate.__name__.split("_")[0].upper() for gate in GATES
        }
        shown = json.loads(re.search(r"\{.*\}", asked, re.DOTALL)[0])  # type: ignore[index]
        assert shown == {"step": waiting["step"], "plan": waiting["digest"], "decision": "approve", "reason": "…"}

        await page.send_signal("decide", json.dumps({**shown, "plan": "0123456789abcdef"}))
        answered = await page.shows("Decision not counted")
        await tab.screenshot(path=shots / "2-refused.png")

        why = f"it is for another plan (‘0123456789abcdef’); the plan shown is ‘{waiting['digest']}’"  # the UI's quotes
        assert why in answered
        assert "Approve reroute_traffic?" in answered
        assert await weights(lab) == {"chat-a": 50, "chat-b": 50}

        await page.send_signal("decide", json.dumps(shown))
        status = await lab.in_state(handle, "mitigated", 60)
        after = await page.shows("mitigated")
        await tab.screenshot(path=shots / "3-mitigated.png")

        assert "Decision not counted" not in after
        assert [d["accepted"] for d in status["record"]["decisions"]] == [False, True]
        assert await weights(lab) == {"chat-a": 0, "chat-b": 100}

        await lab.heal()
        await lab.resolve(detection)
        result = await handle.result()
        await page.shows("closed, restored", "mitigated")
        await tab.screenshot(path=shots / "4-closed.png")

    assert result["outcome"] == "restored"


async def test_text_of_strangers_stays_text_on_the_page(lab: labs.Lab, ports: Ports, tab: Page) -> None:
    """Labels, payloads and senders can hold markup: shown as typed; no picture is loaded, no link is made of it."""
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    picture = "![](http://127.0.0.1:9/tracker.png)"
    identity = f'<img src="http://127.0.0.1:9/tracker.png"> {picture} http://click.example/x'
    ask = ClassPolicy(mode="ask", approval_ttl_s=60)
    async with labs.running_worker(lab.parts(labs.policy(engine__hang=ask))):
        target = Target(cluster=labs.CLUSTER, service="![pic](tracker.png)&lt;b&gt;_x_")
        unknown = await lab.start(lab.lost("chat-a", 1, target=target))
        assert (await unknown.result())["outcome"] == "paged"

        sick = lab.engines["a2"]
        sick.stop()
        detection = lab.hang(sick)
        asking = await lab.start(detection)
        waiting = (await lab.in_state(asking, "waiting_approval"))["waiting"]
        stranger = await Client.connect(lab.client.service_client.config.target_host, identity=identity)
        await stranger.get_workflow_handle(asking.id).signal("decide", {"step": waiting["step"], "plan": picture})

        shown = []
        for handle, words in (
            (unknown, "lab/service/![pic](tracker.png)&lt;b&gt;_x_: closed, paged"),
            (asking, "Decision not counted"),
        ):
            page = RunPage(tab, ports.ui, handle, (await handle.describe()).run_id)
            shown.append(await page.shows(words))
            assert {await frame.locator("a, img").count() for frame in tab.frames[1:]} == {0}
        sick.go_on()
        await lab.resolve(detection)
        assert (await asking.result())["outcome"] == "self_resolved"

    assert identity.replace('"', "”").replace("”", "“", 1) in shown[1]  # the UI's own quotes
    assert re.search(rf"it is for another plan \(.{re.escape(picture)}", shown[1])
    assert not [url for url in asked if url.endswith("tracker.png")]
