"""What only a Gateway can do to us: sleep, say no, be edited, lose an answer, be away; and we can die between two calls."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from activities.adapters.gateway import GatewayTraffic
from activities.adapters.gateway_route import EPOCH, PERMIT, Patch
from activities.adapters.kube_api import KubeApi
from activities.adapters.kube_config import KubeAccess, Token, from_kubeconfig
from activities.errors import Ambiguous, Permanent, Refused, Retryable
from runbooks.change import Change, Permit
from tests.adapters.envoy_lab import until
from tests.adapters.gateway_lab import GatewayLab, Relay, gateway_lab, shipped_role
from tests.adapters.test_traffic_contract import SHIFT, A, B, by_pool, change, permit
from tests.kube.control_plane import ControlPlane

WEST = change({"weight/code/pool-c": 100}, {"weight/code/pool-c": 50})
C = "weight/code/pool-c"
ASIDE = change({"weight/draft/pool-b": 50}, {"weight/draft/pool-b": 20})


@pytest.fixture
async def lab(tmp_path: Path, plane: ControlPlane) -> AsyncIterator[GatewayLab]:
    """Routes that serve."""
    async with gateway_lab(tmp_path, plane) as ready:
        yield ready
        plane.resume_all()


def undo(of: Change) -> tuple[Change, Permit]:
    """The change taken back, by a permit for that."""
    back = of.reversed("undo")
    return back, permit(back, epoch=2).model_copy(update={"purpose": "undo"})


def at(point: str, act: Callable[[], object]) -> Callable[[str], None]:
    """A checkpoint that does something at one point, the first time."""
    done: list[str] = []

    def check(now: str) -> None:
        if now == point and not done:
            done.append(now)
            act()

    return check


async def crashed(lab: GatewayLab, wanted: Change, by: Permit, point: str) -> int:
    """The exit status of a process that swaps and kills itself at `point`."""
    job = {
        "fleet": lab.fleet.model_dump_json(),
        "kubeconfig": str(lab.kubeconfig),
        "namespace": lab.namespace,
        "change": wanted.model_dump_json(),
        "permit": by.model_dump_json(),
        "at": point,
    }
    script = Path(__file__).with_name("gateway_crash.py")
    child = await asyncio.create_subprocess_exec(sys.executable, str(script), json.dumps(job))
    return await child.wait()


@pytest.mark.parametrize("point", ["after_before_read", "after_write", "before_read_back"])
async def test_killed_at_any_point_the_same_permit_ends_in_exactly_one_update(lab: GatewayLab, point: str) -> None:
    """SIGKILL, then the same permit twice: one change of the spec, the weights in force."""
    by = permit(SHIFT)
    assert await crashed(lab, SHIFT, by, point) == -signal.SIGKILL

    await lab.traffic().swap(SHIFT, by)
    snapshot = await lab.traffic().swap(SHIFT, by)

    assert await lab.updates(A) == 1
    assert snapshot.permit_id == by.id
    assert await lab.traffic().effective([A, B]) == SHIFT.after


async def test_weights_that_no_controller_takes_up_are_ambiguous_and_a_second_run_settles_it(lab: GatewayLab) -> None:
    """Written and not served: declared says one thing, effective nothing. When the controller wakes, the act is found."""
    traffic, by = lab.traffic(accept_deadline_s=0.2), permit(SHIFT)
    lab.controller.awake.clear()

    with pytest.raises(Ambiguous, match=r"not accepted within 0\.2 s: .*has not said Accepted"):
        await traffic.swap(SHIFT, by)

    assert (await traffic.read("east")).settings[A] == 40
    assert await traffic.effective([A, B]) == {}
    lab.controller.awake.set()
    assert (await lab.traffic().swap(SHIFT, by)).permit_id == by.id
    assert await lab.updates(A) == 1
    assert by_pool(await lab.served(200))["pool-b"] > 80


async def test_no_act_rests_on_weights_that_are_not_served_but_an_undo_is_written(lab: GatewayLab) -> None:
    """Nobody knows what such an act would move. An undo only sets right what the controller will find."""
    lab.controller.awake.clear()
    with pytest.raises(Ambiguous):
        await lab.traffic(accept_deadline_s=0.1).swap(SHIFT, permit(SHIFT))
    more = change(SHIFT.after, {A: 0, B: 100})

    with pytest.raises(Retryable, match="nothing was written"):
        await lab.traffic().swap(more, permit(more, epoch=2))
    assert await lab.updates(A) == 1

    back, by = undo(SHIFT)
    with pytest.raises(Ambiguous, match="is written, and not accepted"):
        await lab.traffic(accept_deadline_s=0.1).swap(back, by)
    lab.controller.awake.set()
    assert (await lab.traffic().swap(back, by)).settings[A] == 100
    assert await lab.updates(A) == 2


async def test_weights_that_a_gateway_rejects_are_taken_back_and_the_old_ones_serve(lab: GatewayLab) -> None:
    """The Service of the receiving pool is gone: the controller says so, and the route does not stay like that."""
    lab.plane.api.delete(f"/api/v1/namespaces/{lab.namespace}/services/pool-b")

    with pytest.raises(Refused, match=r"ResolvedRefs=False \(BackendNotFound.*the old weights are back"):
        await lab.traffic().swap(SHIFT, permit(SHIFT, epoch=3))

    snapshot = await lab.traffic().read("east")
    assert (snapshot.settings[A], snapshot.settings[B]) == (100, 0)
    assert (snapshot.epoch, snapshot.permit_id) == (3, "")
    assert by_pool(await lab.served(20)) == {"pool-a": 20}


async def test_a_hand_edit_while_a_swap_is_being_judged_is_not_overwritten(lab: GatewayLab) -> None:
    """The write is bound to what was read; what stands there now is judged anew, and is not what the plan rests on."""
    rules = lab.plane.api.get(lab.path("chat"))["spec"]["rules"]
    rules[0]["backendRefs"][0]["weight"] = 7
    edit = at("after_before_read", lambda: lab.plane.api.merge(lab.path("chat"), {"spec": {"rules": rules}}))

    with pytest.raises(Refused, match=r"is 7 on HTTPRoute .*/chat, and the plan rests on 100"):
        await lab.traffic(checkpoint=edit).swap(SHIFT, permit(SHIFT))

    assert await lab.updates(A) == 1
    assert (await lab.traffic().read("east")).settings[A] == 7


async def test_a_change_that_leaves_the_weights_alone_only_makes_the_swap_look_again(lab: GatewayLab) -> None:
    """A label, or a controller's status, written between look and write."""
    label = {"metadata": {"labels": {"team": "llm"}}}
    edit = at("after_before_read", lambda: lab.plane.api.merge(lab.path("chat"), label))

    await lab.traffic(checkpoint=edit).swap(SHIFT, permit(SHIFT))

    assert await lab.updates(A) == 1
    assert lab.plane.api.get(lab.path("chat"))["metadata"]["labels"] == {"team": "llm"}


async def test_a_route_that_has_been_replaced_while_it_was_judged_is_not_written(lab: GatewayLab) -> None:
    """Deleted while judged: nothing to write to, and the route is named."""
    delete = at("after_before_read", lambda: lab.plane.api.delete(lab.path("chat")))

    with pytest.raises(Permanent, match="httproutes"):
        await lab.traffic(checkpoint=delete).swap(SHIFT, permit(SHIFT))


async def test_a_late_attempt_on_another_route_fails_although_it_was_judged_before_the_fence_rose(
    lab: GatewayLab,
) -> None:
    """Epoch 4 has judged `draft` and is about to write when epoch 5 acts on `chat`: the fence stands on every route."""
    held, go_on = asyncio.Event(), asyncio.Event()

    class Slow:
        """The real API, slow just before it writes `draft`."""

        async def get(self, path: str, role: str) -> dict[str, Any]:
            return await lab.api.get(path, role)

        async def patch(self, path: str, ops: Patch, *, role: str) -> dict[str, Any]:
            if path.endswith("/draft"):
                held.set()
                await go_on.wait()
            return await lab.api.patch(path, ops, role=role)

    slow = GatewayTraffic(lab.fleet, Slow(), namespace=lab.namespace)
    late = asyncio.create_task(slow.swap(ASIDE, permit(ASIDE, epoch=4)))
    await held.wait()
    await lab.traffic().swap(SHIFT, permit(SHIFT, epoch=5))
    go_on.set()

    with pytest.raises(Refused, match="fenced: east is at epoch 5"):
        await late
    assert await lab.updates("weight/draft/pool-b") == 0


async def test_a_lost_fence_does_not_let_a_late_attempt_through(lab: GatewayLab) -> None:
    """The route that was written says by whom, too."""
    await lab.traffic().swap(SHIFT, permit(SHIFT, epoch=9))
    for route in ("chat", "draft"):
        lab.plane.api.merge(lab.path(route), {"metadata": {"annotations": {EPOCH: None}}})
    back = SHIFT.reversed("late")

    with pytest.raises(Refused, match="fenced"):
        await lab.traffic().swap(back, permit(back, epoch=8))
    assert (await lab.traffic().read("east")).epoch == 9


async def test_a_route_of_two_domains_keeps_their_epochs_apart(lab: GatewayLab) -> None:
    """`chat` with pool-b in `west`: west's first epoch is not below east's ninth, and each finds its own act."""
    pools = tuple(p.model_copy(update={"cluster": "west"}) if p.name == "pool-b" else p for p in lab.fleet.pools)
    lab.fleet = lab.fleet.model_copy(update={"pools": pools})
    more = change(SHIFT.after, {A: 10, B: 90})
    await lab.traffic().swap(SHIFT, permit(SHIFT, epoch=9))

    snapshot = await lab.traffic().swap(more, permit(more, domain="west"))

    assert (snapshot.epoch, snapshot.permit_id) == (1, "permit-1")
    east = await lab.traffic().read("east")
    assert (east.epoch, east.permit_id, east.settings[A]) == (9, "permit-9", 10)
    notes = lab.plane.api.get(lab.path("chat"))["metadata"]["annotations"]
    assert notes == {EPOCH: "east=9/permit-9 west=1/permit-1", PERMIT: "east=9/permit-9 west=1/permit-1"}


async def test_rules_that_carry_the_same_split_move_together_and_a_pinned_one_stays(lab: GatewayLab) -> None:
    """One rule for each path; a tenant's rule to one pool is not Interlock's."""
    rule = lab.plane.api.get(lab.path("chat"))["spec"]["rules"][0]
    pinned = {
        "matches": [{"headers": [{"name": "x-tenant", "value": "acme"}]}],
        "backendRefs": [rule["backendRefs"][0]],
    }
    lab.plane.api.merge(lab.path("chat"), {"spec": {"rules": [rule, rule, pinned]}})
    await lab.accepted(SHIFT.before)

    await lab.traffic().swap(SHIFT, permit(SHIFT))

    rules = lab.plane.api.get(lab.path("chat"))["spec"]["rules"]
    assert [[b["weight"] for b in r["backendRefs"]] for r in rules] == [[40, 60], [40, 60], [100]]


async def test_names_on_the_cluster_may_differ_from_those_of_the_fleet(lab: GatewayLab) -> None:
    """Route and pools are found where the settings say, in another namespace too; the keys stay the fleet's."""
    route = lab.plane.api.get(lab.path("chat"))
    route["metadata"] = {"name": "llm-chat", "namespace": lab.namespace}
    del route["status"]
    for backend, name in zip(route["spec"]["rules"][0]["backendRefs"], ("draft", "code"), strict=True):
        backend["name"] = name
    lab.plane.apply(route)
    renamed = GatewayTraffic(
        lab.fleet.model_copy(update={"routes": lab.fleet.routes[:1]}),
        lab.api,
        namespace="elsewhere",
        objects={"chat": f"{lab.namespace}/llm-chat"},
        services={"pool-a": "draft", "pool-b": "code"},
    )

    assert (await renamed.read("east")).settings == SHIFT.before


async def test_what_an_httproute_has_no_setting_for_is_refused_in_one_sentence(lab: GatewayLab) -> None:
    """Endpoints, connections and admitted shares belong to another proxy."""
    for key, before, after in (
        ("connections/pool-a", 0, 60),
        ("admit/chat/batch", 100, 50),
        ("endpoint/pool-a/x", 1, 0),
    ):
        wanted = change({key: before}, {key: after})
        with pytest.raises(Refused, match=f"{key}: an HTTPRoute has no such setting"):
            await lab.traffic().swap(wanted, permit(wanted))


async def test_an_unknown_domain_and_a_missing_route_are_permanent_and_named(lab: GatewayLab) -> None:
    """Before anything is written: what could not be read after the act stops us before it."""
    with pytest.raises(Permanent, match="no domain 'north'"):
        await lab.traffic().read("north")
    lab.plane.api.delete(lab.path("draft"))

    for asked in (lab.traffic().read("east"), lab.traffic().swap(SHIFT, permit(SHIFT))):
        with pytest.raises(Permanent, match=r"httproutes\.gateway\.networking\.k8s\.io draft .*404"):
            await asked
    assert await lab.updates(A) == 0


async def test_without_its_role_the_adapter_says_which_one_to_bind(lab: GatewayLab) -> None:
    """Forbidden is permanent: asking again changes nothing."""
    role = shipped_role(lab.namespace)[0]
    role["rules"][0]["verbs"] = ["get"]
    lab.plane.apply(role)

    async def counts() -> bool:
        try:
            await lab.api.patch(lab.path("code"), [{"op": "test", "path": "/kind", "value": "HTTPRoute"}], role="-")
        except Permanent:
            return True
        return False

    await until(counts, "the role without patch counts")

    with pytest.raises(Permanent, match=r"bind the role of docs/rbac/reroute_traffic\.yaml"):
        await lab.traffic().swap(WEST, permit(WEST, domain="west"))
    assert (await lab.traffic().read("west")).epoch == 0


async def test_an_answer_that_is_lost_is_read_back_and_the_write_is_not_repeated(lab: GatewayLab) -> None:
    """The connection breaks after the server has written: the same call finds its act and goes on."""
    async with Relay.to(lab.plane.url) as relay, KubeApi(relayed(lab, relay)) as api:
        cut = at("after_before_read", relay.lose_next_answer)
        traffic = GatewayTraffic(lab.fleet, api, namespace=lab.namespace, checkpoint=cut)

        snapshot = await traffic.swap(WEST, permit(WEST, domain="west"))

    assert relay.lost == 1
    assert snapshot.settings[C] == 50
    assert await lab.updates(C) == 1


async def test_an_api_server_that_falls_silent_in_the_middle_leaves_it_ambiguous(lab: GatewayLab) -> None:
    """The write was sent; it may land later. The same permit afterwards ends in exactly one update."""
    by = permit(WEST, domain="west")
    async with KubeApi(from_kubeconfig(lab.kubeconfig), timeout_s=0.5) as api:
        silence = at("after_before_read", lambda: lab.plane.pause_component("apiserver"))
        with pytest.raises(Ambiguous, match="was not answered and may still happen"):
            await GatewayTraffic(lab.fleet, api, namespace=lab.namespace, checkpoint=silence).swap(WEST, by)
        with pytest.raises(Retryable, match="no answer"):
            await GatewayTraffic(lab.fleet, api, namespace=lab.namespace).read("west")

    lab.plane.resume_all()
    snapshot = await lab.traffic().swap(WEST, by)
    assert (snapshot.permit_id, snapshot.settings[C]) == (by.id, 50)
    assert await lab.updates(C) == 1


async def test_an_api_server_that_is_away_is_retryable(lab: GatewayLab) -> None:
    """Nobody listens there: nothing was read and nothing was written."""
    async with Relay.to(lab.plane.url) as relay:
        access = relayed(lab, relay)
    async with KubeApi(access) as api:
        traffic = GatewayTraffic(lab.fleet, api, namespace=lab.namespace)
        for asked in (traffic.read("east"), traffic.effective([A]), traffic.swap(SHIFT, permit(SHIFT))):
            with pytest.raises(Retryable):
                await asked


async def test_a_swap_cancelled_before_its_write_writes_nothing_later(lab: GatewayLab) -> None:
    """Cancelled means over."""
    running: list[asyncio.Task[Any]] = []
    cancel = at("after_before_read", lambda: running[0].cancel())
    running.append(asyncio.create_task(lab.traffic(checkpoint=cancel).swap(SHIFT, permit(SHIFT))))

    with pytest.raises(asyncio.CancelledError):
        await running[0]

    assert await lab.updates(A) == 0


async def test_a_swap_cancelled_after_its_write_ends_only_when_it_is_read_back(lab: GatewayLab) -> None:
    """So whoever reads after the cancellation reads the last word."""
    running: list[asyncio.Task[Any]] = []
    cancel = at("after_write", lambda: running[0].cancel())
    running.append(asyncio.create_task(lab.traffic(checkpoint=cancel).swap(SHIFT, permit(SHIFT))))

    with pytest.raises(asyncio.CancelledError):
        await running[0]

    assert await lab.traffic().effective([A, B]) == SHIFT.after


def relayed(lab: GatewayLab, relay: Relay) -> KubeAccess:
    """The adapter's account, by way of the relay."""
    direct = from_kubeconfig(lab.kubeconfig)
    return KubeAccess(relay.url, Token(direct.token.text()), direct.tls)
