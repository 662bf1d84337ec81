"""What only Envoy can do to us: be away, refuse a file, be overridden, hold on to a request, die between two lines."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from activities.adapters.envoy_files import EdgeFolder
from activities.errors import Ambiguous, Permanent, Refused, Retryable
from runbooks.change import Change, Permit
from runbooks.facts import Settings
from tests.adapters.envoy_lab import ROUTE_TIMEOUT_S, EnvoyLab, envoy_lab, until
from tests.adapters.test_traffic_contract import SHIFT, A, B, by_pool, change, permit


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[EnvoyLab]:
    """A running edge."""
    async with envoy_lab(tmp_path) as ready:
        yield ready


async def override(lab: EnvoyLab, **keys: str) -> None:
    """What a person does with curl in an emergency."""
    (await lab.client.post(f"{lab.admin_url}/runtime_modify", params=keys)).raise_for_status()


async def crashed(lab: EnvoyLab, wanted: Change, by: Permit, point: str) -> int:
    """The exit status of a process that swaps and kills itself at `point`."""
    job = {
        "fleet": lab.fleet.model_dump_json(),
        "folder": str(lab.folder),
        "admin_url": lab.admin_url,
        "change": wanted.model_dump_json(),
        "permit": by.model_dump_json(),
        "at": point,
    }
    script = Path(__file__).with_name("envoy_crash.py")
    child = await asyncio.create_subprocess_exec(sys.executable, str(script), json.dumps(job))
    return await child.wait()


async def test_envoy_away_before_the_write_is_retryable_and_the_file_is_untouched(lab: EnvoyLab) -> None:
    """Nothing is written that nobody could read back; no fence either."""
    before = (lab.folder / "rtds.json").read_bytes()
    lab.stop()

    with pytest.raises(Retryable, match="gave no answer"):
        await lab.traffic().swap(SHIFT, permit(SHIFT))

    assert (lab.folder / "rtds.json").read_bytes() == before
    assert not (lab.folder / "fence.json").exists()


async def test_envoy_dying_between_write_and_read_back_is_ambiguous_and_a_second_run_settles_it(lab: EnvoyLab) -> None:
    """The file stands; when Envoy is back it applies it, and the same permit finds its act."""
    traffic = lab.traffic(checkpoint=lambda point: lab.stop() if point == "after_write" else None, apply_deadline_s=0.3)

    with pytest.raises(Ambiguous, match="has not shown it"):
        await traffic.swap(SHIFT, permit(SHIFT))

    await lab.start()
    snapshot = await lab.traffic().swap(SHIFT, permit(SHIFT))
    assert snapshot.permit_id == "permit-1"
    assert await lab.updates(A) == 1
    assert by_pool(await lab.served(200))["pool-b"] > 80


async def test_a_file_that_envoy_refuses_is_taken_back_and_the_old_settings_serve(lab: EnvoyLab) -> None:
    """A connection life beyond what a protobuf Duration holds: Envoy says no, so do we."""
    traffic, key = lab.traffic(), "connections/pool-a"
    before = (lab.folder / "cds.json").read_bytes()
    endless = change({key: 0}, {key: 10**12})

    with pytest.raises(Refused, match=r"Envoy refused cds\.json.*the old file is back"):
        await traffic.swap(endless, permit(endless))

    assert (lab.folder / "cds.json").read_bytes() == before
    assert await traffic.effective([key]) == {key: 0}
    assert by_pool(await lab.served(10)) == {"pool-a": 10}
    short = change({key: 0}, {key: 60})
    assert (await traffic.swap(short, permit(short, epoch=2))).settings[key] == 60


async def test_killed_after_a_write_that_envoy_refuses_the_second_run_takes_it_back(lab: EnvoyLab) -> None:
    """Else the refused file would wait on the disk for the next start of Envoy."""
    key, before = "connections/pool-a", (lab.folder / "cds.json").read_bytes()
    endless = change({key: 0}, {key: 10**12})
    assert await crashed(lab, endless, permit(endless), "after_write") == -signal.SIGKILL

    async def refused() -> bool:
        return await lab.stat("cluster_manager.cds.update_failure") == 1

    await until(refused, "Envoy refuses the file")
    with pytest.raises(Refused, match="the old file is back"):
        await lab.traffic().swap(endless, permit(endless))
    assert (lab.folder / "cds.json").read_bytes() == before


async def test_an_admin_override_of_a_key_is_refused_by_name_and_left_alone(lab: EnvoyLab) -> None:
    """The override wins over the file: writing would change nothing, clearing it is a person's business."""
    traffic = lab.traffic()
    await override(lab, **{"routing.split.chat.pool-a": "7"})

    with pytest.raises(Refused, match=f"{A} is overridden to 7"):
        await traffic.swap(SHIFT, permit(SHIFT))

    assert await traffic.effective([A]) == {A: 7}
    await override(lab, **{"routing.split.chat.pool-a": ""})
    await traffic.swap(SHIFT, permit(SHIFT))
    assert await traffic.effective([A]) == {A: 40}


async def test_a_request_on_a_hung_endpoint_ends_at_the_route_timeout_and_its_connection_with_it(lab: EnvoyLab) -> None:
    """Isolating cannot cut what is in flight in Envoy; the timeout bounds it, and then nothing is left open."""
    traffic, hung = lab.traffic(), lab.upstreams[lab.fleet.pools[1].endpoints[0].address]
    to_b = change({A: 100, B: 0}, {A: 0, B: 100})
    await traffic.swap(to_b, permit(to_b, epoch=1))
    await lab.served(3)
    hung.hanging, started = True, time.monotonic()
    request = asyncio.create_task(lab.request())

    async def in_flight() -> bool:
        return await lab.stat("cluster.pool-b.upstream_rq_active") == 1

    await until(in_flight, "the request waits on the hung endpoint")
    key = f"endpoint/pool-b/{hung.address}"
    out = change({key: "in"}, {key: "out"})
    await traffic.swap(out, permit(out, epoch=2))

    assert (await lab.request()).status_code == 503
    assert (await request).status_code == 504
    assert time.monotonic() - started < ROUTE_TIMEOUT_S + 1

    async def closed() -> bool:
        return not hung.open

    await until(closed, "the hung endpoint has no connection", deadline_s=1.0)


@pytest.mark.parametrize("point", ["after_before_read", "after_write", "before_read_back"])
@pytest.mark.parametrize("family", ["weight", "endpoint", "connections"])
async def test_killed_at_any_point_the_same_permit_ends_in_exactly_one_update(
    lab: EnvoyLab, point: str, family: str
) -> None:
    """SIGKILL inside the lock, then the same permit twice: one update at Envoy, the settings in force."""
    endpoint = f"endpoint/pool-a/{lab.fleet.pools[0].endpoints[0].address}"
    cases: dict[str, tuple[Settings, Settings]] = {
        "weight": (SHIFT.before, SHIFT.after),
        "endpoint": ({endpoint: "in"}, {endpoint: "out"}),
        "connections": ({"connections/pool-a": 0}, {"connections/pool-a": 60}),
    }
    wanted = change(*cases[family])
    key, by = next(iter(wanted.after)), permit(wanted)
    at_first = await lab.updates(key)
    assert await crashed(lab, wanted, by, point) == -signal.SIGKILL

    await lab.traffic().swap(wanted, by)
    await lab.traffic().swap(wanted, by)

    assert await lab.updates(key) == at_first + 1
    assert await lab.traffic().effective(list(wanted.after)) == wanted.after


async def test_a_swap_cancelled_while_it_waits_for_the_lock_writes_nothing_later(lab: EnvoyLab) -> None:
    """Cancelled means over: when the lock comes free, nobody takes it up for the caller who left."""
    async with EdgeFolder(lab.folder).lock(1.0, lambda: False):
        waiting = asyncio.create_task(lab.traffic().swap(SHIFT, permit(SHIFT)))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert (await lab.traffic().read("east")).settings[A] == 100
    other = change(SHIFT.before, {A: 90, B: 10})
    assert (await lab.traffic().swap(other, permit(other))).settings[A] == 90


async def test_a_swap_cancelled_in_the_middle_of_its_write_ends_only_when_the_write_has(lab: EnvoyLab) -> None:
    """So whoever reads after the cancellation reads the last word."""
    written, go_on = threading.Event(), threading.Event()

    def pause(point: str) -> None:
        if point == "after_write":
            written.set()
            assert go_on.wait(5)

    swap = asyncio.create_task(lab.traffic(checkpoint=pause).swap(SHIFT, permit(SHIFT)))
    assert await asyncio.to_thread(written.wait, 5)
    swap.cancel()
    done, _ = await asyncio.wait({swap}, timeout=0.1)
    assert not done

    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await swap
    assert await lab.traffic().effective([A]) == {A: 40}
    async with EdgeFolder(lab.folder).lock(0, lambda: False):
        assert (await lab.traffic().read("east")).permit_id == "permit-1"


async def test_a_hand_edit_while_a_swap_is_being_judged_is_not_overwritten(lab: EnvoyLab) -> None:
    """An editor takes no lock; the file is compared once more just before the write."""
    path = lab.folder / "rtds.json"
    by_hand = path.read_bytes().replace(b'"routing.split.code.pool-c": 100', b'"routing.split.code.pool-c": 7')

    def edit(point: str) -> None:
        if point == "after_before_read":
            path.write_bytes(by_hand)

    with pytest.raises(Refused, match="changed by hand"):
        await lab.traffic(checkpoint=edit).swap(SHIFT, permit(SHIFT))

    assert path.read_bytes() == by_hand


async def test_a_lock_that_stays_taken_is_retryable(lab: EnvoyLab) -> None:
    """Bounded waiting: somebody else is at work on this edge."""
    async with EdgeFolder(lab.folder).lock(1.0, lambda: False):
        with pytest.raises(Retryable, match="edge folder"):
            await lab.traffic(lock_wait_s=0.05).swap(SHIFT, permit(SHIFT))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("rtds.json", "{half"),
        ("rtds.json", '{"version_info": "", "resources": []}'),
        ("cds.json", '{"version_info": "me", "resources": []}'),
        ("fence.json", '{"east": 3}'),
        ("eds-pool-a.json", None),
    ],
)
async def test_a_mangled_file_is_permanent_and_named(lab: EnvoyLab, file: str, text: str | None) -> None:
    """No guess is made of what it meant, and no other file of the domain is written meanwhile."""
    path = lab.folder / file
    path.unlink(missing_ok=True)
    if text is not None:
        path.write_text(text)
    shed = change({"admit/chat/batch": 100}, {"admit/chat/batch": 50})

    with pytest.raises(Permanent, match=file):
        await lab.traffic().read("east")
    with pytest.raises(Permanent, match=file):
        await lab.traffic().swap(shed, permit(shed))


async def test_a_lost_fence_does_not_let_a_late_attempt_through(lab: EnvoyLab) -> None:
    """The file that was written says its epoch too."""
    await lab.traffic().swap(SHIFT, permit(SHIFT, epoch=9))
    (lab.folder / "fence.json").unlink()
    back = SHIFT.reversed("late")

    with pytest.raises(Refused, match="fenced"):
        await lab.traffic().swap(back, permit(back, epoch=8))
    assert (await lab.traffic().read("east")).epoch == 9
