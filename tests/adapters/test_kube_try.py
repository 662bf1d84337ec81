"""The replica that checks a node, without a control plane."""

from __future__ import annotations

from typing import Any

from activities.adapters.kube_try import LIVES_S, replica
from workflows.retries import rejoining
from workflows.standing import MOST_LOAD_S


def test_a_check_replica_ends_by_itself_when_everybody_who_knows_of_it_is_gone() -> None:
    """After the last attempt of the check, whatever the template says, and the Deployment's own stays as it was."""
    deployment: dict[str, Any] = {
        "spec": {
            "selector": {"matchLabels": {"app": "engine"}},
            "template": {"metadata": {"labels": {"app": "engine"}}, "spec": {"containers": []}},
        }
    }

    pod = replica(deployment, "n1", "big", "interlock-check-1")

    assert (
        pod["spec"]["activeDeadlineSeconds"]
        == LIVES_S
        > rejoining(MOST_LOAD_S)["schedule_to_close_timeout"].total_seconds()
    )
    assert "activeDeadlineSeconds" not in deployment["spec"]["template"]["spec"]
