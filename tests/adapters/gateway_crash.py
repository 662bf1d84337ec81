"""Run as a program: one swap of HTTPRoute weights that kills its own process at a named point. Argument: JSON, see `main`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from activities.adapters.gateway import GatewayTraffic
from activities.adapters.kube_api import KubeApi
from activities.adapters.kube_config import from_kubeconfig
from runbooks.change import Change, Permit
from runbooks.fleet import Fleet


async def main(job: dict[str, str]) -> None:
    """`fleet`, `change` and `permit` as JSON, `kubeconfig`, `namespace`, and the checkpoint `at` which to die."""

    def die(point: str) -> None:
        if point == job["at"]:
            os.kill(os.getpid(), signal.SIGKILL)

    async with KubeApi(from_kubeconfig(Path(job["kubeconfig"]))) as api:
        fleet = Fleet.model_validate_json(job["fleet"])
        traffic = GatewayTraffic(fleet, api, namespace=job["namespace"], checkpoint=die)
        await traffic.swap(Change.model_validate_json(job["change"]), Permit.model_validate_json(job["permit"]))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
