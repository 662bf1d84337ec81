"""Causes inside the engine: timeouts, exhaustion, crashes, latency, hangs, bad output. Levers: mission taxonomy, column levers."""

from __future__ import annotations

from runbooks.incident_faults import Fault
from worker.synthetic_story import Scene, Story, fault


def _also_500(scene: Scene, replicas: int | None) -> tuple[Fault, ...]:
    """Where a site shows 408 and 500 both: the engine gives some of what it cannot finish back as a server error."""
    if not scene.both_statuses:
        return ()
    share = scene.draw.between(0.1, 0.25)
    return (fault("errors", scene.begins, pool=scene.pool.name, replicas=replicas, share=share, returns=scene.hotfix),)


def slow_replicas(scene: Scene) -> Story:
    """A few replicas become so slow that what they get passes its deadline; the others are well."""
    few = scene.few()
    factor = scene.draw.between(0.02, 0.08) / (1 + scene.harder)
    slow = fault("slow", scene.begins, pool=scene.pool.name, replicas=few, factor=factor, returns=scene.hotfix)
    return Story(
        faults=(slow, *_also_500(scene, few)),
        target=scene.service,
        allowed=("isolate_endpoint", "reroute_traffic", "recycle_connections"),
        did=("rollout_hotfix",) if scene.hotfix else ("isolate_endpoint",),
        words=f"{few} replica(s) of {scene.pool.name} served at {factor:.0%} of their speed; requests on them timed out.",
        said=("some requests never come back, a retry works", "about one in a few calls times out", "clients give up waiting"),
        symptom="timeouts",
        lasts=scene.lasts(20, 45),
    )  # fmt: skip


def slow_pool(scene: Scene) -> Story:
    """All replicas slow down so much that requests pass their deadline."""
    factor = round(scene.load / (scene.draw.between(1.5, 3.0) + scene.harder), 2)
    slow = fault("slow", scene.begins, pool=scene.pool.name, factor=factor, returns=scene.hotfix)
    return Story(
        faults=(slow, *_also_500(scene, None)),
        target=scene.service,
        allowed=("reroute_traffic", "isolate_endpoint", "recycle_connections", "shed_load"),
        did=("reroute_traffic", "rollout_hotfix") if scene.hotfix else ("reroute_traffic",),
        words=f"Every replica of {scene.pool.name} fell to {factor:.0%} of its speed; most requests passed their deadline.",
        said=("everything times out since a few minutes ago", "requests hang and then fail", "the service does not answer in time"),
        symptom="timeouts",
        lasts=scene.lasts(20, 45),
    )  # fmt: skip


def dead_connections(scene: Scene) -> Story:
    """Half-open connections between gateway and engines: what is sent on them is never answered."""
    share = min(0.95, scene.draw.between(0.12, 0.6) * (1 + scene.harder))
    # With a wrong keep-alive setting, connections that were closed die again.
    times = (0.0, 600.0, 1200.0) if scene.hotfix else (0.0,)
    dead = [fault("dead_connections", scene.begins + t, pool=scene.pool.name, share=share) for t in times]
    return Story(
        faults=(*dead, *_also_500(scene, 1)),
        target=scene.service,
        allowed=("recycle_connections", "reroute_traffic", "isolate_endpoint"),
        did=("recycle_connections", "rollout_hotfix") if scene.hotfix else ("recycle_connections",),
        words=f"{share:.0%} of the connections to {scene.pool.name} were half open after a network event; requests on them timed out."
        + (" It came back until the keep-alive setting was mended." if scene.hotfix else ""),
        said=("some requests never come back, a retry works", "random time-outs, the dashboards of the engines look fine"),
        symptom="timeouts",
        lasts=scene.lasts(25, 40),
    )  # fmt: skip


def long_requests(scene: Scene) -> Story:
    """Requests with far longer prompts fill the KV cache; the rest waits."""
    factor = round(scene.fills * scene.draw.between(1.1, 1.8) * (1 + 0.3 * scene.harder), 1)
    return Story(
        faults=(fault("long_requests", scene.begins, route=scene.route.name, factor=factor),),
        target=scene.service,
        allowed=("shed_load", "increase_capacity", "reroute_traffic"),
        did=("shed_load", "rollout_hotfix") if scene.hotfix else ("increase_capacity",),
        words=f"Requests of {scene.route.name} became {factor:.1f} times as long; the KV cache filled and requests waited.",
        said=("answers take for ever to start", "requests are refused with 'try again later'", "long documents make everything slow"),
        symptom="slow",
        lasts=scene.lasts(25, 50),
    )  # fmt: skip


def long_and_retried(scene: Scene) -> Story:
    """As long_requests, less so, and clients that send again what failed."""
    longer = round(scene.fills * scene.draw.between(1.02, 1.3) * (1 + 0.3 * scene.harder), 1)
    more = scene.draw.between(1.1, 1.35)
    return Story(
        faults=(
            fault("long_requests", scene.begins, route=scene.route.name, factor=longer),
            fault("demand", scene.begins + 60, route=scene.route.name, factor=more, ramp=120.0),
        ),
        target=scene.service,
        allowed=("shed_load", "increase_capacity", "reroute_traffic"),
        did=("shed_load", "rollout_hotfix") if scene.hotfix else ("shed_load", "increase_capacity"),
        words=f"Longer requests ({longer:.1f} times) filled the memory of the engines of {scene.route.name}; "
        f"retries ({more:.2f} times) kept it full.",
        said=("errors and slow answers, worse by the minute", "we get 'overloaded' and the retries do not help"),
        symptom="slow",
        lasts=scene.lasts(25, 50),
    )  # fmt: skip


def crash_loop(scene: Scene) -> Story:
    """Engines that die again some time after each start."""
    count = min(scene.pool.replicas, scene.draw.whole(1, max(1, scene.pool.replicas // 2)) + scene.harder)
    every = float(round(scene.draw.between(30, 120)))
    return Story(
        faults=(fault("crash", scene.begins, pool=scene.pool.name, replicas=count, every=every, returns=scene.hotfix),),
        target=scene.service,
        allowed=("isolate_endpoint", "reroute_traffic", "rollback_change") + (("rollout_hotfix",) if scene.hotfix else ()),
        did=("rollout_hotfix",) if scene.hotfix else ("isolate_endpoint",),
        words=f"{count} engine(s) of {scene.pool.name} ended {every:.0f} s after every start.",
        said=("requests break off in the middle of the answer", "many errors, the pods restart again and again"),
        symptom="errors",
        lasts=scene.lasts(20, 45),
    )  # fmt: skip


def crash_once(scene: Scene) -> Story:
    """Several engines die at once and come back one cold start later."""
    count = min(scene.pool.replicas, max(2, scene.pool.replicas // 2) + scene.harder)
    return Story(
        faults=(fault("crash", scene.begins, pool=scene.pool.name, replicas=count),),
        target=scene.service,
        allowed=("isolate_endpoint", "reroute_traffic", "rollback_change"),
        did=("reroute_traffic",),
        words=f"{count} engines of {scene.pool.name} ended together and were back after a cold start.",
        said=("a burst of errors", "connection refused from several pods"),
        symptom="errors",
        lasts=scene.lasts(20, 35),
    )  # fmt: skip


def slower(scene: Scene) -> Story:
    """Slower, and nobody is refused."""
    # As slow as can be without a queue: one that grows is a time-out, and another class.
    factor = round(min(0.95, scene.load * scene.draw.between(1.05, 1.1 if scene.harder else 1.35)), 2)
    return Story(
        faults=(fault("slow", scene.begins, pool=scene.pool.name, factor=factor, returns=scene.hotfix),),
        target=scene.service,
        allowed=("reroute_traffic",),
        did=("rollout_hotfix",) if scene.hotfix else ("reroute_traffic",),
        words=f"The engines of {scene.pool.name} made tokens at {factor:.0%} of their speed; answers came late and nothing failed.",
        said=("answers are slower than yesterday", "typing speed of the answers has halved", "the first word takes long"),
        symptom="slow",
        lasts=scene.lasts(25, 50),
    )  # fmt: skip


def hang(scene: Scene) -> Story:
    """Engines that take requests and make no tokens."""
    whole = scene.draw.happens(0.2)
    count = None if whole else scene.few()
    return Story(
        faults=(fault("hang", scene.begins, pool=scene.pool.name, replicas=count, returns=scene.hotfix),),
        target=scene.service if whole else scene.endpoint(0),
        allowed=("isolate_endpoint", "restart_engine", "reroute_traffic"),
        did=("restart_engine", "rollout_hotfix") if scene.hotfix else ("restart_engine",),
        words=f"{'All' if whole else count} engine(s) of {scene.pool.name} took requests and made no tokens; "
        "their health pages stayed green.",
        said=("the stream stays open and nothing comes", "requests hang for ever, health checks are green"),
        symptom="no answer",
        lasts=scene.lasts(20, 45),
    )  # fmt: skip


def bad_output(scene: Scene) -> Story:
    """Status 200 and wrong text."""
    count = scene.few() if scene.draw.happens(0.5) else None
    share = min(1.0, scene.draw.between(0.1, 0.9) * (1 + scene.harder))
    return Story(
        faults=(fault("bad_output", scene.begins, pool=scene.pool.name, replicas=count, share=share, returns=scene.hotfix),),
        target=scene.service if count is None else scene.endpoint(0),
        allowed=("isolate_endpoint", "rollback_change", "rollout_hotfix"),
        did=("rollout_hotfix",) if scene.hotfix else ("isolate_endpoint",),
        words=f"{share:.0%} of the answers of {'all' if count is None else count} replica(s) of {scene.pool.name} were wrong, "
        "with status 200.",
        said=("the model talks nonsense", "answers contain characters of another language", "answers stop in the middle of a word"),
        symptom="wrong answers",
        lasts=scene.lasts(25, 60),
    )  # fmt: skip
