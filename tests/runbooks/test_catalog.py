"""The shipped catalogue is whole, and the check finds what is wrong with another one."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from runbooks.detection import TargetKind
from runbooks.levers import LEVERS, Step
from runbooks.library import SHIPPED, Library, json_schemas, load_library
from runbooks.linting import check, check_runbook
from runbooks.loader import CatalogError
from runbooks.policy import Policy
from runbooks.taxonomy import FailureClass
from worker.commands.runbook import app, as_text

README = Path(__file__).parents[2] / "README.md"
SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The shipped catalogue, to break."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "catalog"))


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_the_shipped_catalogue_has_no_mistake() -> None:
    """What we ship passes its own check."""
    assert check() == []


PAGE_ONLY = {"dep.upstream", "ops.automation_runaway", "ops.detection_gap", "unknown"}
"""Classes on which nothing of ours acts: acting would make it worse, or nobody knows what it is."""


@pytest.mark.parametrize("cls", load_library().taxonomy.classes, ids=lambda c: c.id)
def test_every_class_acts_by_one_of_its_levers_or_is_left_to_people_on_purpose(
    cls: FailureClass, library: Library
) -> None:
    """A class that names an acting lever has a runbook that uses one, and none that it does not name; the others page."""
    mine = [r for r in library.runbooks.values() if r.failure_class == cls.id]
    used = {s.lever for r in mine for s in r.steps} - {"page"}

    assert mine
    if cls.id in PAGE_ONLY:
        assert used == set()
        return
    assert used & set(cls.levers)
    assert used <= set(cls.levers), "a runbook moves a lever that the taxonomy does not name for its class"


def test_the_list_of_levers_is_that_of_the_union() -> None:
    """A model that is not listed would have no line in the README, and no limits that the check knows."""
    models = get_args(get_args(Step)[0])

    assert sorted(m.model_fields["lever"].default for m in models) == sorted(LEVERS)


@pytest.mark.parametrize("cls", load_library().taxonomy.classes, ids=lambda c: c.id)
def test_the_readme_names_the_levers_that_the_runbooks_of_a_class_move(cls: FailureClass, library: Library) -> None:
    """Its table of classes is what a newcomer believes."""
    used = {s.lever for r in library.runbooks.values() if r.failure_class == cls.id for s in r.steps} - {"page"}
    row = next(line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{cls.id}` |"))

    assert set(re.findall(r"`(\w+)`", row.split("|")[3])) == used


def test_every_lever_is_moved_by_some_runbook(library: Library) -> None:
    """A lever that no runbook uses would never be tried by anybody."""
    assert {s.lever for r in library.runbooks.values() for s in r.steps} == set(LEVERS)


def test_every_class_is_answered_on_every_kind_of_target_that_an_alert_of_it_may_name(library: Library) -> None:
    """Classes of infrastructure, operations and demand have a runbook for all five kinds, if only one that asks for the
    label that is missing."""
    for cls in library.taxonomy.classes:
        if cls.group == "engine":
            continue
        assert [k for k in TargetKind if library.pick(cls.id, k) is None] == [], cls.id


def test_a_runbook_that_only_pages_tells_what_was_not_done(library: Library) -> None:
    """An SRE reads plainly that nothing has happened by itself."""
    for name, runbook in library.runbooks.items():
        if {s.lever for s in runbook.steps} == {"page"}:
            assert any(
                w in runbook.steps[0].parameters["summary"] for w in ("nothing", "no weight", "not act", "restart the")
            ), name


def test_what_cannot_be_taken_back_waits_for_a_named_person(policy: Policy, library: Library) -> None:
    """Resets and reboots never act unattended in the shipped policy, and no class that moves them is auto."""
    assert not policy.for_lever("reset_gpu").unattended
    assert not policy.for_lever("reboot_node").unattended
    for runbook in library.runbooks.values():
        if {"reset_gpu", "reboot_node"} & {s.lever for s in runbook.steps}:
            assert policy.for_class(runbook.failure_class).mode == "ask"


def test_every_lever_of_a_runbook_has_limits_of_its_own(policy: Policy) -> None:
    """The defaults are for levers that nobody has thought about."""
    assert set(policy.levers) == set(LEVERS) - {"page"}


def test_a_step_that_is_slow_by_nature_has_the_time_that_it_needs(library: Library) -> None:
    """Whatever replaces replicas waits minutes for a model to load, and never loses its lock to impatience."""
    slow = {"rebalance_nodes", "restart_engine", "increase_capacity", "rollout_hotfix", "rollback_change"}
    for name, runbook in library.runbooks.items():
        for step in runbook.steps:
            if step.lever in slow:
                assert step.verify is not None
                assert step.verify.deadline_s >= 600, name
                assert step.verify.soak_s >= 20, name


def test_every_acting_runbook_ends_with_people(library: Library) -> None:
    """When steps run out there is a page in the runbook's own words."""
    assert all(r.steps[-1].lever == "page" for r in library.runbooks.values())


def test_class_and_kind_pick_the_runbook(library: Library) -> None:
    """One class may have one runbook for an endpoint and another for a pool."""
    endpoint = library.pick("engine.crash", TargetKind.ENDPOINT)
    service = library.pick("engine.crash", TargetKind.SERVICE)

    assert endpoint is not None
    assert service is not None
    assert (endpoint[0], service[0]) == ("engine_crash_endpoint.yaml", "engine_crash_service.yaml")
    assert library.pick("engine.crash", TargetKind.GPU) is None


@pytest.mark.parametrize("name", ["engine_hang.yaml", "engine_crash_endpoint.yaml", "engine_crash_service.yaml"])
def test_the_demo_runbooks_need_no_prometheus(name: str, library: Library) -> None:
    """Their indicators come from the proxy, the engines, the control plane and real generations."""
    runbook = library.runbooks[name]
    used = {c.indicator for s in runbook.steps if s.verify for c in s.verify.criteria}

    for dialect in library.dialects.values():
        assert {dialect.indicators[i].source for i in used} <= {"scrape", "probe", "cluster"}


def test_the_shipped_policy_is_careful(policy: Policy, library: Library) -> None:
    """Only a proven hang acts by itself; what nobody named asks; nothing unknown becomes a question."""
    auto = [c.id for c in library.taxonomy.classes if policy.for_class(c.id).mode == "auto"]

    assert auto == ["engine.hang"]
    assert policy.for_class("never.seen").mode == "ask"
    assert policy.ask_on_unknown == ()


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("runbooks/engine_hang.yaml", "{{ endpoint }}", "{{ endpont }}", "'endpont' is undefined"),
        (
            "runbooks/engine_hang.yaml",
            "indicator: error_rate",
            "indicator: error_rat",
            "'error_rat' is not defined for",
        ),
        ("runbooks/engine_hang.yaml", "title:", "titel:", "there is no such field"),
        ("runbooks/engine_hang.yaml", "class: engine.hang", "class: engine.hung", "no failure class 'engine.hung'"),
        ("runbooks/engine_hang.yaml", "lever: isolate_endpoint", "lever: isolate", "isolate"),
        ("runbooks/engine_hang.yaml", "indicator: route_generation", "indicator: tokens_per_second", "real generation"),
        ("runbooks/engine_crash_service.yaml", "[service]", "[service, endpoint]", "take endpoint out of one"),
        ("policy.yaml", "  engine.hang: {", "  engine.hung: {", "no such failure class"),
        ("policy.yaml", "  isolate_endpoint:", "  isolate_endpoints:", "no such lever"),
        ("indicators/vllm.yaml", "  queue:\n", "  queues:\n", "does not define queue"),
        ("indicators/vllm.yaml", "query: ok", "query: okay", "there is no 'okay'"),
        ("taxonomy.yaml", "class: engine.crash\n", "class: engine.crashed\n", "'engine.crashed', which is not in"),
        ("taxonomy.yaml", "levers: [shed_load, page]", "levers: [shed_laod]", "lever 'shed_laod'"),
    ],
)
def test_the_check_finds_a_mistake_and_names_its_file(copy: Path, file: str, old: str, new: str, says: str) -> None:
    """Each is one line that names a file of the catalogue and what is wrong."""
    _edit(copy / file, old, new)

    problems = check(copy)

    assert any(says in line for line in problems), problems
    assert all(line.startswith(str(copy)) and "\n" not in line for line in problems)


def test_the_check_reports_several_broken_files_at_once(copy: Path) -> None:
    """One broken file does not hide another."""
    _edit(copy / "policy.yaml", "name: careful", "nmae: careful")
    _edit(copy / "taxonomy.yaml", "classes:", "clases:")

    problems = check(copy)

    assert {line.split(":")[0].rsplit("/", 1)[1] for line in problems} == {"policy.yaml", "taxonomy.yaml"}


def test_a_class_without_a_runbook_is_found(copy: Path) -> None:
    """Every class must at least tell people."""
    for path in (copy / "runbooks").glob("demand_surge_*.yaml"):
        path.unlink()

    assert any("no runbook for demand.surge" in line for line in check(copy))


def test_an_empty_folder_is_a_mistake(tmp_path: Path) -> None:
    """A wrong path does not pass as a catalogue without mistakes."""
    assert check(tmp_path)
    with pytest.raises(CatalogError):
        load_library(tmp_path)


def test_a_single_runbook_names_the_line(tmp_path: Path) -> None:
    """The line of the field that is wrong, also for a template."""
    path = tmp_path / "mine.yaml"
    text = (
        (SHIPPED / "runbooks" / "engine_hang.yaml").read_text(encoding="utf-8").replace("{{ endpoint }}", "{{ nope }}")
    )
    path.write_text(text, encoding="utf-8")
    line = next(n for n, row in enumerate(text.splitlines(), 1) if "nope" in row)

    assert any(p.startswith(f"{path}:{line}: steps[0].with.endpoint: ") for p in check_runbook(path))


def test_the_command_line_says_ok_or_exits_with_one(copy: Path) -> None:
    """`interlock runbook check`, as a person and as CI use it."""
    good = CliRunner().invoke(app, ["check"])
    _edit(copy / "policy.yaml", "name: careful", "nmae: careful")
    bad = CliRunner().invoke(app, ["check", str(copy)])

    assert good.exit_code == 0
    assert "21 classes" in good.output
    assert bad.exit_code == 1
    assert f"{copy / 'policy.yaml'}:2: nmae: there is no such field" in bad.output


@pytest.mark.parametrize("name", sorted(json_schemas()))
def test_schema_files_are_up_to_date(name: str) -> None:
    """When this fails: interlock runbook schema."""
    assert (SCHEMAS / f"{name}.json").read_text(encoding="utf-8") == as_text(json_schemas()[name])


def test_schemas_can_be_written_anywhere(tmp_path: Path) -> None:
    """One file per kind."""
    assert CliRunner().invoke(app, ["schema", "--out", str(tmp_path / "x")]).exit_code == 0
    assert {p.stem for p in (tmp_path / "x").iterdir()} == set(json_schemas())
    assert json.loads((tmp_path / "x" / "runbook.json").read_text(encoding="utf-8"))["title"] == "Runbook"
