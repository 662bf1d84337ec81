"""Causes in the model's configuration and in operations. Levers: mission taxonomy, column levers."""

from __future__ import annotations

from typing import Any

from worker.synthetic_story import Scene, Story, at, fault


def _version(scene: Scene) -> str:
    return f"v{scene.draw.whole(2, 9)}"


def _change(scene: Scene, version: str, **effect: Any) -> Any:
    """A rollout of the pool; with a hotfix there is a version that does not have the effect."""
    fixed = f"{version}.1" if scene.hotfix else None
    pace = scene.draw.between(2, 8)
    return fault(
        "change", scene.begins, pools=(scene.pool.name,), version=version, per_minute=pace, fixed_by=fixed, **effect
    )


def _way_back(scene: Scene) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Levers that are right after a change, and what people did."""
    if scene.hotfix:
        return ("rollback_change", "freeze_changes", "rollout_hotfix"), ("rollout_hotfix",)
    return ("rollback_change", "freeze_changes"), ("rollback_change",)


def request_compat(scene: Scene) -> Story:
    """Clients and engine do not fit together: a header, a schema or an encoding."""
    share = min(0.95, scene.draw.between(0.08, 0.5) * (1 + scene.harder))
    allowed, did = _way_back(scene)
    changed = scene.draw.happens(0.5)
    status = 400 if changed else scene.draw.weighted({400: 3.0, 415: 1.0, 422: 2.0})
    version = _version(scene)
    broken = (
        _change(scene, version, client_errors=share)
        if changed
        else fault("client_errors", scene.begins, pool=scene.pool.name, share=share, status=status)
    )
    who = f"after {version}" if changed else "since clients send another header"
    return Story(
        faults=(broken,),
        target=scene.service,
        allowed=allowed,
        did=did,
        words=f"{share:.0%} of the requests to {scene.pool.name} were refused with HTTP {status} {who}.",
        said=(
            "all calls from our SDK are rejected as invalid",
            f"HTTP {status} since this morning, we changed nothing",
            "requests with images are rejected",
        ),
        symptom="rejected requests",
        lasts=scene.lasts(25, 50),
    )  # fmt: skip


def engine_mismatch(scene: Scene) -> Story:
    """A change sets what the running engine does not know: 400 and 429 on one model."""
    share = scene.draw.between(0.15, 0.5)
    limited = scene.draw.between(0.06, 0.2) * (1 + 0.5 * scene.harder)
    allowed, did = _way_back(scene)
    version = _version(scene)
    return Story(
        faults=(
            _change(scene, version, client_errors=share),
            fault("client_errors", scene.begins + 30, pool=scene.pool.name, share=limited, status=429),
        ),
        target=scene.service,
        allowed=allowed,
        did=did,
        words=f"{version} of {scene.pool.name} carried a flag unknown to its engine: {share:.0%} HTTP 400, {limited:.0%} HTTP 429.",
        said=("one model rejects its parameters", "400 and 429 on one model, the others are fine"),
        symptom="rejected requests",
        lasts=scene.lasts(25, 50),
    )  # fmt: skip


def bad_setting(scene: Scene) -> Story:
    """A new version or flag that makes a pool fail, slow, hang or full."""
    kind = scene.draw.weighted({"errors": 3.0, "slow": 1.5, "hangs": 1.0, "memory": 1.0})
    effect: dict[str, Any] = {
        "errors": {"errors": min(0.95, scene.draw.between(0.1, 0.6) * (1 + scene.harder))},
        "slow": {"slow_factor": scene.draw.between(0.15, 0.35) / (1 + scene.harder)},
        "hangs": {"hangs": min(1.0, scene.draw.between(0.3, 0.8) * (1 + scene.harder))},
        "memory": {"kv_factor": scene.draw.between(4, 8) * (1 + scene.harder)},
    }[kind]
    allowed, did = _way_back(scene)
    version = _version(scene)
    # A replica that makes no tokens may be taken out of the way, whatever made it so.
    out = ("isolate_endpoint",) if kind == "hangs" else ()
    return Story(
        faults=(_change(scene, version, **effect),),
        target=scene.service,
        allowed=(*allowed, *out),
        did=did,
        words=f"{version} was rolled out to {scene.pool.name} ({', '.join(f'{k} {v:g}' for k, v in effect.items())}).",
        said=("broken since the rollout", "errors started minutes after the new version"),
        symptom="errors",
        lasts=scene.lasts(25, 55),
    )


def imbalance(scene: Scene) -> Story:
    """Traffic sticks to one pool, or to one replica of it."""
    one = scene.draw.happens(0.5) or len(scene.route.pools) == 1
    share = min(0.95, scene.draw.between(0.5, 0.8) + 0.1 * scene.harder)
    return Story(
        faults=(fault("imbalance", scene.begins, pool=scene.pool.name, share=share, replica=one),),
        target=scene.service,
        allowed=("reroute_traffic",),
        did=("reroute_traffic",),
        words=f"{share:.0%} of the traffic stuck to {'one replica of ' if one else ''}{scene.pool.name}, whatever the weights said.",
        said=("one pod has all the queue, the others idle", "some sessions are terribly slow, others fine"),
        symptom="uneven load",
        lasts=scene.lasts(25, 45),
    )  # fmt: skip


def detection_gap(scene: Scene) -> Story:
    """The site's own figures of a pool are gone or stand still; nothing else is wrong."""
    stale = scene.draw.happens(0.5)
    return Story(
        faults=(fault("blind", scene.begins, what="metrics", of=scene.pool.name, stale=stale),),
        target=scene.service,
        allowed=(),
        did=("page",),
        words=f"The figures of {scene.pool.name} {'stood still at their last value' if stale else 'were missing'}; users were well.",
        said=("the dashboard shows nothing for this pool", "this alert is wrong, nobody has a problem", "graphs are flat lines"),
        symptom="alerts or graphs are wrong",
        lasts=scene.lasts(20, 40),
    )  # fmt: skip


def automation_runaway(scene: Scene) -> Story:
    """A balancer moves weights to and fro, further each time, and nobody asked it to."""
    steps = [scene.begins + 120.0 * n for n in range(6)]
    first = scene.pool.name
    others = [p for p in scene.route.pools if p != first]
    moves = []
    for n, when in enumerate(steps):
        to_first = 100 if n % 2 == 0 else 5
        sets = {f"weight/{scene.route.name}/{first}": to_first}
        sets |= {f"weight/{scene.route.name}/{p}": (100 - to_first) // len(others) for p in others}
        moves.append(fault("by_hand", when, by="weight balancer", sets=sets))
    return Story(
        faults=tuple(moves),
        target=scene.service,
        allowed=("freeze_changes",),
        did=("page",),
        words=f"From {at(scene.begins)} on a balancer moved the weights of {scene.route.name} to and fro every two minutes.",
        said=("somebody keeps changing our weights", "traffic jumps between the clusters every two minutes"),
        symptom="automation acts too much",
        lasts=scene.lasts(20, 35),
    )
