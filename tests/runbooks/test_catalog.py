"""The shipped catalogue is whole, and the check finds what is wrong with another one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runbooks.detection import TargetKind
from runbooks.library import SHIPPED, Library, json_schemas, load_library
from runbooks.linting import check, check_runbook
from runbooks.loader import CatalogError
from runbooks.policy import Policy
from worker.commands.runbook import app, as_text

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


def test_every_class_has_a_runbook_and_others_say_that_nothing_acts(library: Library) -> None:
    """Engine classes act; every other class tells people plainly that Interlock does not."""
    for cls in library.taxonomy.classes:
        mine = [r for r in library.runbooks.values() if r.failure_class == cls.id]
        assert mine
        if cls.group != "engine" and cls.id != "unknown":
            page = mine[0].steps[0]
            assert [s.lever for s in mine[0].steps] == ["page"]
            assert "Interlock does not act on this class yet" in page.parameters["summary"]


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
    """Their indicators come from the proxy, the engines and real generations."""
    runbook = library.runbooks[name]
    used = {c.indicator for s in runbook.steps if s.verify for c in s.verify.criteria}

    for dialect in library.dialects.values():
        assert {dialect.indicators[i].source for i in used} <= {"scrape", "probe"}


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
    (copy / "runbooks" / "page_demand_surge.yaml").unlink()

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
