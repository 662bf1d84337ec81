"""Interlock as it runs on a real cluster: `interlock intake` and `interlock worker`, told everything by settings."""

from __future__ import annotations

import json
import secrets
import shutil
import sys
from pathlib import Path

import httpx
import yaml

from runbooks.fleet import Fleet
from runbooks.library import load_policy
from tests.kube.demo.catalog import quick_catalog
from worker.demo.engines import CLUSTER, ROUTE
from worker.demo.interlock import PERSON, Interlock
from worker.demo.processes import ProcessTree, free_ports
from worker.identity import dev_issuer, ensure_claim_key

READY_S = 60.0


async def start_interlock(
    tree: ProcessTree,
    fleet: Fleet,
    *,
    kubeconfig: Path,
    temporal_address: str,
    ui_url: str,
    envoy_admin: str,
    front: str,
) -> Interlock:
    """Start both and wait until the doors answer and the worker polls. `kubeconfig` is all that it may do there."""
    folder = tree.folder / "interlock"
    folder.mkdir()
    (folder / "fleet.yaml").write_text(yaml.safe_dump(fleet.model_dump(mode="json"), sort_keys=False))
    shutil.copyfile(Path(__file__).parent / "policy.yaml", folder / "policy.yaml")
    load_policy(folder / "policy.yaml")
    issuer, token, port = dev_issuer(folder / "issuer"), secrets.token_urlsafe(24), free_ports(1)[0]
    both = {
        "INTERLOCK_TEMPORAL__ADDRESS": temporal_address,
        "INTERLOCK_FLEET_FILE": str(folder / "fleet.yaml"),
        "INTERLOCK_POLICY_FILE": str(folder / "policy.yaml"),
        "INTERLOCK_CATALOG_DIR": str(quick_catalog(folder / "catalog")),
        "INTERLOCK_JOURNAL_URL": f"sqlite:///{folder / 'journal.db'}",
        "INTERLOCK_PAGES_FILE": str(folder / "pages.log"),
        "INTERLOCK_CLAIM_KEY_FILE": str(ensure_claim_key(folder / "claim.key")),
        "INTERLOCK_UI_URL": ui_url,
    }
    doors = {
        "INTERLOCK_INTAKE__PORT": str(port),
        "INTERLOCK_INTAKE__TOKEN": token,
        "INTERLOCK_PEOPLE__JWKS_FILE": str(issuer.settings.jwks_file),
        "INTERLOCK_PEOPLE__ISSUER": str(issuer.settings.issuer),
        "INTERLOCK_PEOPLE__AUDIENCE": str(issuer.settings.audience),
    }
    hands = {
        "INTERLOCK_KUBERNETES__KUBECONFIGS": json.dumps({CLUSTER: str(kubeconfig)}),
        "INTERLOCK_ENVOY__FOLDER": str(tree.folder / "edge"),
        "INTERLOCK_ENVOY__ADMIN_URL": envoy_admin,
        "INTERLOCK_ROUTE_URLS": json.dumps({ROUTE: front}),
    }
    program = [sys.executable, "-m", "worker"]
    # One after the other: whoever comes first lays down the journal's tables.
    worker = tree.start("interlock-worker", [*program, "worker"], env=both | hands)

    async def polls() -> bool:
        return " polling " in worker.log.read_text(errors="replace")

    await tree.ready(worker, polls, READY_S)
    intake = tree.start("interlock-intake", [*program, "intake"], env=both | doors)
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(trust_env=False, timeout=2) as http:

        async def open_doors() -> bool:
            try:
                return (await http.get(f"{url}/readyz")).is_success
            except httpx.HTTPError:
                return False

        await tree.ready(intake, open_doors, READY_S)
    return Interlock(intake, url, token, issuer.mint(PERSON, ("sre-oncall",)), folder)
