"""`interlock runbook check`: everything that can be known to be wrong with a catalogue before an alert comes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from runbooks.detection import Detection, Target, TargetKind
from runbooks.fleet import Endpoint, Fleet, Node, Pool, Route, outside
from runbooks.indicators import Dialect
from runbooks.levers import LEVERS
from runbooks.library import SHIPPED, Library, files, load_library, load_policy
from runbooks.loader import CatalogError, Document, build, read
from runbooks.planning import planned_steps
from runbooks.policy import Policy
from runbooks.schema import Runbook
from runbooks.taxonomy import Taxonomy
from runbooks.templates import RenderError


def check(folder: Path | None = None, fleet: Fleet | None = None) -> list[str]:
    """One line per mistake in a catalogue folder (the shipped one when none is given); none: all is well.

    `fleet` is the site's own: names of pools, routes and nodes that a runbook writes out are looked up there.
    """
    root = folder or SHIPPED
    problems = [line for found in _readable(root) for line in found]
    if problems:
        return problems
    try:
        library, policy = load_library(root), load_policy(root / "policy.yaml")
    except CatalogError as error:
        return list(error.problems)
    problems += _policy(root / "policy.yaml", library, policy)
    problems += _dialects(root, library)
    for path in files(root / "runbooks"):
        problems += _runbook(path, library, policy, fleet)
    have = {(runbook.failure_class) for runbook in library.runbooks.values()}
    problems += [
        f"{root / 'runbooks'}: there is no runbook for {c.id}; add one, if only with a page step"
        for c in library.taxonomy.classes
        if c.id not in have
    ]
    return problems


def check_runbook(path: Path, catalogue: Path | None = None, fleet: Fleet | None = None) -> list[str]:
    """One line per mistake in a single runbook file, held against a catalogue (the shipped one when none is given)."""
    try:
        library = load_library(catalogue)
        policy = load_policy(catalogue / "policy.yaml" if catalogue else None)
        return _runbook(path, library, policy, fleet)
    except CatalogError as error:
        return list(error.problems)


def _readable(root: Path) -> Iterator[tuple[str, ...]]:
    """The problems of every file by itself, so that one broken file does not hide another."""
    singles: list[tuple[Path, type[Taxonomy] | type[Policy]]] = [
        (root / "taxonomy.yaml", Taxonomy),
        (root / "policy.yaml", Policy),
    ]
    for path, model in singles:
        yield _problems(path, model)
    for folder, many in ((root / "indicators", Dialect), (root / "runbooks", Runbook)):
        try:
            found = files(folder)
        except CatalogError as error:
            yield error.problems
            continue
        for path in found:
            yield _problems(path, many)


def _problems(path: Path, model: type[Taxonomy] | type[Policy] | type[Dialect] | type[Runbook]) -> tuple[str, ...]:
    try:
        build(read(path), model)
    except CatalogError as error:
        return error.problems
    return ()


def _policy(path: Path, library: Library, policy: Policy) -> list[str]:
    document = read(path)
    known = {c.id for c in library.taxonomy.classes}
    lines = [
        f"{document.at(('classes', name))}: there is no such failure class; correct its spelling"
        for name in policy.classes
        if name not in known
    ]
    return lines + [
        f"{document.at(('levers', name))}: there is no such lever; levers are {', '.join(LEVERS)}"
        for name in policy.levers
        if name not in LEVERS
    ]


def _dialects(root: Path, library: Library) -> list[str]:
    """A name that one engine lacks would make a runbook work on one pool and not on the next."""
    everything = {name for dialect in library.dialects.values() for name in dialect.indicators}
    return [
        f"{root / 'indicators'}: {dialect.dialect} does not define {name}, and another dialect does; add it"
        for dialect in library.dialects.values()
        for name in sorted(everything - set(dialect.indicators))
    ]


def _runbook(path: Path, library: Library, policy: Policy, own: Fleet | None) -> list[str]:
    """Renders the runbook for every kind of target and every dialect that it is for, on a sample fleet."""
    document = read(path)
    runbook = build(document, Runbook)
    lines: list[str] = []
    if library.taxonomy.get(runbook.failure_class) is None:
        lines.append(f"{document.at(('class',))}: there is no failure class {runbook.failure_class!r} in the taxonomy")
    for kind in runbook.applies_to:
        for dialect in sorted(library.dialects):
            lines += _rendered(document, runbook, kind, dialect, library, policy, own)
    return list(dict.fromkeys(lines))


def _rendered(
    document: Document,
    runbook: Runbook,
    kind: str,
    dialect: str,
    library: Library,
    policy: Policy,
    own: Fleet | None,
) -> list[str]:
    fleet = _sample_fleet(dialect, own)
    sample = _sample_detection(TargetKind(kind))
    steps, problems = planned_steps(
        runbook, sample, library=library, policy=policy, fleet=fleet, now=sample.observed_at
    )
    lines = [_line(document, problem, kind, own is None) for problem in problems]
    for step in steps:
        if step.verify is not None and not any(query.generates for query in step.indicators):
            where = document.at(("steps", int(step.id.split("-")[0]) - 1, "verify", "criteria"))
            lines.append(f"{where}: no criterion is a real generation; add route_generation or real_generation")
    return lines


def _line(document: Document, problem: RenderError, kind: str, sample: bool) -> str:
    where = (
        "; a name of your own fleet is known with --fleet FILE" if sample and "the fleet has no" in problem.why else ""
    )
    return f"{document.at(problem.field)}: {problem.why} (on a target of kind {kind}{where})"


def _sample_fleet(dialect: str, own: Fleet | None) -> Fleet:
    """Something of every kind for templates to name, beside what the site really has."""
    pools = [
        {
            "name": name,
            "cluster": "sample",
            "dialect": dialect,
            "endpoints": (Endpoint(address=f"{name}.example:8000"),),
            "tokens_per_second": 1.0,
            "workload": {"namespace": "models", "deployment": name, "replicas": 1},
        }
        for name in ("pool-a", "pool-b")
    ]
    route = Route(name="chat", pools=("pool-a", "pool-b"), tiers=("batch", "interactive"))
    node = Node(name="node-1", cluster="sample", pools=("pool-a",), gpus=8)
    sample = tuple(Pool.model_validate(pool) for pool in pools)
    if own is None:
        return Fleet(routes=(route,), pools=sample, nodes=(node,), controls=outside("sample"))
    known = {p.name for p in own.pools}
    return Fleet(
        routes=(route, *own.routes),
        pools=(*(p for p in sample if p.name not in known), *own.pools),
        nodes=(node, *own.nodes),
        dependencies=own.dependencies,
        controls=(*outside("sample"), *own.controls),
    )


def _sample_detection(kind: TargetKind) -> Detection:
    then = datetime(2026, 1, 1, tzinfo=UTC)
    parts: dict[TargetKind, dict[str, str]] = {
        TargetKind.CLUSTER: {},
        TargetKind.SERVICE: {"service": "pool-a"},
        TargetKind.ENDPOINT: {"service": "pool-a", "endpoint": "pool-a.example:8000"},
        TargetKind.NODE: {"node": "node-1"},
        TargetKind.GPU: {"node": "node-1", "gpu": "0"},
    }
    target = Target.model_validate({"cluster": "sample", **parts[kind]})
    # What people and pipelines add to an alert where a runbook may use it; without the label its step is left out.
    labels = {"hotfix_image": "registry.example/engine:fixed"}
    return Detection(alert="Sample", target=target, labels=labels, started_at=then, observed_at=then)
