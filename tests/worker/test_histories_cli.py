"""`interlock histories` as people and CI call it: against kept files, and against a real Temporal."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
import yaml

from runbooks.detection import guard_id
from tests import lab as labs
from tests.histories import FOLDER
from tests.scenarios.hostile import ended, hang, measured
from tests.scenarios.test_guard_workflow import start_guard
from tests.worker.test_cases_cli import JWT, closed, interlock
from worker.histories_beside import read_beside

NAME = "engine-hang-restored"


def copied(folder: Path, *, beside: bool = True) -> Path:
    """A kept history in a folder of its own."""
    path = folder / f"{NAME}.json"
    shutil.copy(FOLDER / path.name, path)
    if beside:
        shutil.copy(FOLDER / f"{NAME}.asked.json", folder)
    return path


def edited(path: Path) -> None:
    """As if the code that recorded it had waited longer for its first act."""
    data = json.loads(path.read_text())
    first = next(e for e in data["events"] if "activityTaskScheduledEventAttributes" in e)
    first["activityTaskScheduledEventAttributes"]["startToCloseTimeout"] = "90s"
    path.write_text(json.dumps(data))


async def histories(*words: object, **more: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    return await interlock("histories", *map(str, words), **more)


async def test_a_folder_in_which_all_is_the_same_is_ok(tmp_path: Path) -> None:
    """One line for each history, and one that counts."""
    copied(tmp_path)

    rc, out, err = await histories("check", tmp_path)

    assert (rc, err) == (0, "")
    assert out == f"ok  {NAME}: 216 events, 52 decisions, 6 verdicts\n1 histories, 0 differences\n"
    assert await histories("check", tmp_path, "--json") == (0, "[]\n", "")


async def test_a_difference_is_one_line_and_ends_with_1_until_it_is_accepted(tmp_path: Path) -> None:
    """What is accepted stands beside the history, which is left as it was recorded."""
    path = copied(tmp_path)
    edited(path)
    recorded = path.read_text()

    rc, out, _ = await histories("check", path)
    assert (rc, out.splitlines()) == (
        1,
        [
            f"{NAME}: event 12: activity apply_traffic start_to_close_s: 90.0 → 15.0",
            "1 histories, 1 differences",
        ],
    )
    rc, out, _ = await histories("check", path, "--json")
    assert rc == 1
    assert json.loads(out) == [
        {
            "history": NAME, "event": 12, "what": "activity apply_traffic", "path": "start_to_close_s", "then": 90.0,
            "now": 15.0,
        }
    ]  # fmt: skip
    rc, out, _ = await histories("check", path, "--accept")
    assert (rc, out.splitlines()[-1]) == (0, "1 histories, 0 differences")
    assert path.read_text() == recorded
    assert (await histories("check", path))[0] == 0


async def test_without_what_stands_beside_it_says_what_it_could_not_see(tmp_path: Path) -> None:
    """And with the policy and the fleet of the case it judges again."""
    path = copied(tmp_path, beside=False)
    beside = read_beside(FOLDER / path.name)
    assert beside is not None
    assert beside.fleet is not None
    ((ref, policy),) = beside.policies.items()
    rules, fleet = tmp_path / "policy.yaml", tmp_path / "fleet.yaml"
    rules.write_text(yaml.safe_dump(policy.model_dump(mode="json")))
    fleet.write_text(yaml.safe_dump(beside.fleet.model_dump(mode="json")))

    rc, out, _ = await histories("check", path)
    assert (rc, out.splitlines()) == (
        1,
        [
            # Accepted since it was recorded: what is accepted stands beside the history.
            f'{NAME}: event 80: signal release arguments[0].stands.settings: (nothing) → ["endpoint/chat-a/127.0.0.1:25468"]',
            f"arguments of local activities not compared: nothing stands beside the history: {NAME} (7)",
            f"not judged again: policy {ref} is not here, give it with --policy: {NAME} (6)",
            "1 histories, 1 differences",
        ],
    )
    _, out, _ = await histories("check", path, "--policy", rules)
    assert "not judged again: its fleet is not here, give it with --fleet" in out
    _, out, _ = await histories("check", path, "--policy", rules, "--fleet", fleet)
    assert "judged again" not in out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no such file or folder"),
        ("{", "this is no workflow history in JSON"),
        ('{"events": []}', "this is no workflow history in JSON"),
        ('{"events": [{"eventId": "1"}]}', "this is no workflow history in JSON"),
    ],
)
async def test_what_is_no_history_is_one_sentence(tmp_path: Path, text: str | None, said: str) -> None:
    """That names the file."""
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)

    rc, out, err = await histories("check", path)

    assert (rc, out, len(err.splitlines())) == (1, "", 1)
    assert err.startswith(f"interlock: {path}: {said}"), err


async def test_what_stands_beside_must_be_readable_and_a_folder_must_have_some(tmp_path: Path) -> None:
    """Neither is passed over: a check of nothing would be green for ever."""
    path = copied(tmp_path)
    (tmp_path / f"{NAME}.asked.json").write_text('{"askd": {}}')
    (tmp_path / "none").mkdir()

    broken = await histories("check", path)
    empty = await histories("check", tmp_path / "none")

    assert broken[0] == empty[0] == 1
    assert broken[2].endswith(f"{NAME}.asked.json: askd: Extra inputs are not permitted\n")
    assert "there is no history" in empty[2]


async def test_a_closed_case_is_recorded_and_checks(lab: labs.Lab, tmp_path: Path) -> None:
    """By its workflow id or its case id: without this machine, without a secret, and with what it does not hold."""
    engine, out = lab.engines["a0"], tmp_path / "kept"
    rules, fleet = tmp_path / "policy.yaml", tmp_path / "fleet.yaml"
    rules.write_text(yaml.safe_dump(labs.policy().model_dump(mode="json")))
    fleet.write_text(yaml.safe_dump(lab.fleet.model_dump(mode="json")))
    settings = {
        "INTERLOCK_TEMPORAL__ADDRESS": lab.client.service_client.config.target_host,
        "INTERLOCK_POLICY_FILE": str(rules),
        "INTERLOCK_FLEET_FILE": str(fleet),
    }

    async def record(*words: object) -> tuple[int, str, str]:
        return await histories("record", *words, "--out", out, **settings)

    async with labs.running_worker(lab.parts()), ended(lab) as cases:
        await start_guard(lab)
        await measured(lab)
        await hang(lab, engine)
        alert = lab.hang(engine, labels={"api_key": "hunter2222", "note": f"Bearer {JWT}"})
        handle = await lab.start(alert)
        cases.append(handle)
        await lab.in_state(handle, "mitigated")
        rc, _, err = await record(handle.id)
        assert (rc, err) == (1, f"interlock: {handle.id} is still open: record it when it is closed\n")
        engine.go_on()
        await lab.resolve(alert)
        result = await handle.result()
        first, guard, again = await asyncio.gather(
            record(handle.id, "--name", "hang"), record(guard_id(labs.CLUSTER)), record(result["case"])
        )

    assert [first[0], guard[0], again[0]] == [0, 0, 0], f"{first[1]}\n{guard[1]}\n{again[1]}"
    names = {p.name for p in out.glob("*.json")}
    assert {"hang.json", "hang.asked.json"} <= names
    assert any(n.startswith("guard-lab-") for n in names), names
    assert any(n.startswith("remediate-lab-service-chat-a-endpoint-127.0.0.1-") for n in names), names
    kept = "".join(p.read_text() for p in out.glob("*.json"))
    assert "hunter2222" not in kept
    assert JWT not in kept
    beside = read_beside(out / "hang.json")
    assert beside is not None
    assert beside.fleet == lab.fleet
    assert list(beside.policies) == [labs.policy().ref]
    rc, said, _ = await histories("check", out)
    assert rc == 0, said
    assert "judged again" not in said
    rc, _, err = await record(handle.id, "--name", "hang")
    assert rc == 1
    assert "is there already" in err


async def test_what_cannot_be_recorded_is_one_sentence(lab: labs.Lab, tmp_path: Path, free_port: int) -> None:
    """No such case, no such run, a name that is a path, a name for two, a Temporal that is away."""
    async with labs.running_worker(lab.parts()):
        case = await closed(lab, "to-be-recorded")
    workflow = case.partition("#")[0]
    here = lab.client.service_client.config.target_host

    async def refused(*words: str, address: str = here) -> str:
        rc, _, err = await histories("record", *words, "--out", tmp_path, INTERLOCK_TEMPORAL__ADDRESS=address)
        assert (rc, len(err.splitlines())) == (1, 1), err
        return err

    assert "Temporal has no such run" in await refused("remediate:nobody")
    assert "Temporal has no run of that case" in await refused(f"{workflow}#00000000.1")
    assert "give a plain file name" in await refused(workflow, "--name", "../x")
    assert "--name is for one case" in await refused(workflow, workflow, "--name", "x")
    assert "does not answer" in await refused(workflow, address=f"127.0.0.1:{free_port}")
    assert list(tmp_path.iterdir()) == []
