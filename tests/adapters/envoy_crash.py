"""Run as a program: one swap that kills its own process at a named point. Argument: JSON, see `main`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import httpx

from activities.adapters.envoy import EnvoyTraffic
from runbooks.change import Change, Permit
from runbooks.fleet import Fleet


async def main(job: dict[str, str]) -> None:
    """`fleet`, `change` and `permit` as JSON, `folder`, `admin_url`, and the checkpoint `at` which to die."""

    def die(point: str) -> None:
        if point == job["at"]:
            os.kill(os.getpid(), signal.SIGKILL)

    async with httpx.AsyncClient(trust_env=False) as client:
        fleet = Fleet.model_validate_json(job["fleet"])
        traffic = EnvoyTraffic(fleet, Path(job["folder"]), job["admin_url"], client, checkpoint=die)
        await traffic.swap(Change.model_validate_json(job["change"]), Permit.model_validate_json(job["permit"]))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
