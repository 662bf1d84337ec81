"""The way back, from receipts: at once (undo) or in a ramp (restore). What somebody else has changed is left alone."""

from __future__ import annotations

from runbooks.change import Blast, CannotPlan, Change, NothingToDo, one_way
from runbooks.facts import Settings, Value
from runbooks.plan import PlannedStep


def plan_restore(
    before: Settings, now_settings: Settings, after: Settings, share_back: float, passed: float = 0.0
) -> Change | NothingToDo | CannotPlan:
    """Settings `share_back` (0 to 1) of the way from `after` back to `before`, the receipts' two ends.

    `passed` is the share that an earlier part of the ramp went back already: 0.25 for the second of [0.25, 1.0].
    What stands there now must be exactly what we left. Text (an endpoint in or out) goes back with the first share;
    whole numbers are rounded so that the weights of a route keep their sum.
    """
    if not 0.0 < share_back <= 1.0 or not 0.0 <= passed < share_back:
        return CannotPlan(why=f"a share back of {share_back:g} after {passed:g} is not a way back")
    before = {key: value for key, value in before.items() if not one_way(key)}
    after = {key: value for key, value in after.items() if not one_way(key)}
    if not before:
        return NothingToDo(why="nothing of it can be put back: what is gone has come back as another")
    if set(before) != set(after):
        return CannotPlan(
            why=f"the receipts name different settings before and after: {sorted(set(before) ^ set(after))}"
        )
    left = _on_the_way(before, after, passed)
    for key, value in left.items():
        if key.partition("/")[0] in _BACK_ALREADY and _same(now_settings.get(key), before[key]):
            continue
        if key not in now_settings:
            return CannotPlan(why=f"setting {key} is missing: the actuator does not have it any more")
        if not _same(now_settings[key], value):
            return CannotPlan(
                why=f"setting {key} is {now_settings[key]!r}, and we left {value!r}: changed by somebody else since"
            )
    wanted = _on_the_way(before, after, share_back)
    changed = {
        key: value
        for key, value in wanted.items()
        if not _same(left[key], value) and not _same(now_settings.get(key), value)
    }
    if not changed:
        return NothingToDo(why=f"all settings are {share_back:.0%} of the way back already")
    return Change(
        before={key: left[key] for key in changed},
        after=changed,
        blast=Blast(share_moved=_moved(left, wanted)),
        last=share_back == 1.0,
        note=f"{share_back:.0%} of the way back to normal",
    )


_BACK_ALREADY = frozenset({"paused", "autoscale", "image", "env"})
"""A freeze that somebody has lifted already (the case's own rollback does) is not lifted again, nor put back first; of a
ring that was only partly written, or partly taken back, the rest goes back alone."""


def _same(one: Value | None, other: Value) -> bool:
    return type(one) is type(other) and one == other


def _on_the_way(before: Settings, after: Settings, share: float) -> Settings:
    """The settings at this share of the way from after to before."""
    if share == 0.0:
        return dict(after)
    if share == 1.0:
        return dict(before)
    result: Settings = {}
    groups: dict[str, list[str]] = {}
    for key, old in before.items():
        new = after[key]
        if isinstance(old, bool | str) or isinstance(new, bool | str):
            result[key] = old
        elif isinstance(old, int) and isinstance(new, int):
            groups.setdefault(key.rsplit("/", 1)[0] if key.startswith("weight/") else key, []).append(key)
        else:
            result[key] = new + (old - new) * share
    for keys in groups.values():
        result.update(_rounded({key: _part(before[key], after[key], share) for key in keys}))
    return result


def _part(old: Value, new: Value, share: float) -> float:
    return float(new) + (float(old) - float(new)) * share


def _rounded(exact: dict[str, float]) -> dict[str, int]:
    """Whole numbers with the same sum: floors, then one more for the largest remainders."""
    floors = {key: int(value // 1) for key, value in exact.items()}
    short = round(sum(exact.values())) - sum(floors.values())
    order = sorted(exact, key=lambda key: (floors[key] - exact[key], key))
    return {key: floors[key] + (1 if key in order[:short] else 0) for key in exact}


def _moved(left: Settings, wanted: Settings) -> dict[str, float]:
    """Share of each route that moves, as far as the changed weights tell."""
    moved: dict[str, float] = {}
    totals: dict[str, float] = {}
    for key, value in wanted.items():
        if key.startswith("weight/"):
            route = key.split("/")[1]
            totals[route] = totals.get(route, 0.0) + float(left[key])
            moved[route] = moved.get(route, 0.0) + max(0.0, float(value) - float(left[key]))
    return {route: min(1.0, share / totals[route]) if totals[route] else 1.0 for route, share in moved.items()}


OWN = frozenset({"paused_share", "replicas_left"})
"""Indicators of what a lever itself sets: they prove that it acted, and after the way back they must not hold any more."""


def without_own(step: PlannedStep) -> PlannedStep:
    """The step as its restore is verified: users are served as before, and no longer that the lever stands."""
    if step.verify is None:
        return step
    kept = tuple(c for c in step.verify.criteria if c.indicator not in OWN)
    return step.model_copy(
        update={
            "verify": step.verify.model_copy(update={"criteria": kept}),
            "indicators": tuple(i for i in step.indicators if i.name not in OWN),
        }
    )
