"""Cases that are started without the intake, by the very lines of docs/starting-cases.md."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from activities.adapters.webhook import LogNotify
from runbooks.detection import workflow_id
from runbooks.policy import ClassPolicy
from tests import lab as labs
from tests.e2e import doc
from tests.e2e.conftest import Ports, served
from worker.intake import IntakeDeps, build_intake
from worker.telemetry import setup

AUTO = {"engine__crash": ClassPolicy(mode="auto")}


async def case_of(lab: labs.Lab, sick: labs.Engine) -> dict[str, Any]:
    """Follows the case of a crashed engine to its end: isolated, the engine comes back, resolved, restored."""
    detection = lab.hang(sick, alert="EngineCrash", detector="native", evidence={})
    handle = lab.client.get_workflow_handle(workflow_id(lab.endpoint(sick)))
    status = await lab.in_state(handle, "mitigated")

    assert sick.address not in await lab.rotation(sick.pool)

    await lab.heal()
    await lab.resolve(detection)
    result = await handle.result()

    assert (result["outcome"], result["failure_class"], result["lever"]) == (
        "restored",
        "engine.crash",
        "isolate_endpoint",
    )
    assert sick.address in await lab.rotation(sick.pool)
    return status


def shape(status: dict[str, Any]) -> dict[str, Any]:
    """What must be the same whichever door a case came through."""
    found = status["record"]["detections"][0]
    return {
        "class": status["class"],
        "target": status["target"],
        "detection": {k: v for k, v in found.items() if k not in ("started_at", "observed_at", "received_at")},
        "timeline": [e["what"] for e in status["timeline"] if e["what"] in ("alert firing", "classified", "mitigated")],
    }


async def test_the_lines_of_the_page_open_the_same_case_through_each_door(
    lab: labs.Lab, ports: Ports, tmp_path: Any
) -> None:
    """The intake, Temporal's HTTP API by curl, and the temporal command line: one case each, alike, run to its end."""
    sick = lab.engines["a1"]
    token = tmp_path / "token"
    token.write_text("detector-token\n")
    notify = LogNotify(lab.folder / "pages.jsonl")
    intake = build_intake(
        IntakeDeps(
            client=lab.client, notify=notify, token=SecretStr("detector-token"), telemetry=setup(), fleet=lab.fleet
        )
    )
    about = {"CLUSTER": labs.CLUSTER, "POOL": sick.pool, "ENDPOINT": sick.address}
    shapes = {}
    async with labs.running_worker(lab.parts(labs.policy(**AUTO))), served(intake) as address:
        doors = {
            "2. The intake": {"INTAKE": address, "TOKEN_FILE": str(token)},
            "3. Temporal's HTTP API": {"TEMPORAL_HTTP": ports.http},
            "4. The `temporal`": {"TEMPORAL_ADDRESS": lab.client.service_client.config.target_host},
        }
        for section, variables in doors.items():
            sick.kill()
            (line,) = doc.blocks(section, "sh")
            await doc.run(line, **about, **variables)
            shapes[section] = shape(await case_of(lab, sick))

        by_http = await lab.client.get_workflow_handle(f"by-http:{labs.CLUSTER}:{sick.pool}:{sick.address}").result()

    assert by_http["outcome"] == "forwarded"
    first = shapes["2. The intake"]
    assert list(shapes.values()) == [first] * 3
    assert first["timeline"] == ["alert firing", "classified", "mitigated"]


@pytest.mark.parametrize("wrong", ["alert", "target"])
async def test_a_direct_start_with_a_wrong_detection_closes_with_the_field_named(
    lab: labs.Lab, ports: Ports, wrong: str
) -> None:
    """Temporal takes any JSON: it must be the case that says what is wrong, and people who are told."""
    (line,) = doc.blocks("3. Temporal's HTTP API", "sh")
    broken = line.replace(f'"{wrong}":', '"nonsense":')
    about = {"CLUSTER": labs.CLUSTER, "POOL": "chat-a", "ENDPOINT": f"wrong-{wrong}:1"}
    async with labs.running_worker(lab.parts()):
        await doc.run(broken, **about, TEMPORAL_HTTP=ports.http)
        ended = await lab.client.get_workflow_handle(f"by-http:{labs.CLUSTER}:chat-a:wrong-{wrong}:1").result()

    assert ended["outcome"] == "refused_input"
    assert wrong in ended["why"]
    assert any(wrong in page["body"] for page in lab.pages())
