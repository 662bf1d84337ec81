"""The single place where the demo and Interlock meet: how it is started, and its HTTP API as the demo uses it."""

from __future__ import annotations

import json
import secrets
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import httpx
import yaml

import worker.demo
from runbooks.fleet import Fleet
from runbooks.library import load_policy
from worker.demo.processes import Child, ProcessTree, free_ports
from worker.identity import dev_issuer, ensure_claim_key

PERSON = "demo"
"""Who approves with --yes, by a token of the demo's own issuer."""
PolicyName = Literal["demo", "observe"]


@dataclass(frozen=True)
class Interlock:
    """A running Interlock. `token` is for detectors, `person` is the demo's JWT."""

    child: Child
    url: str
    token: str
    person: str
    folder: Path

    async def status(self, http: httpx.AsyncClient, case: str) -> dict[str, Any] | None:
        """What the case of this workflow id says of itself; None while there is none or nobody can say."""
        try:
            answer = await http.get(self._case(case), headers=self._as_person(), timeout=5)
        except httpx.HTTPError:
            return None
        found = answer.json() if answer.is_success else None
        return found if isinstance(found, dict) else None

    async def approve(self, http: httpx.AsyncClient, case: str, waiting: dict[str, Any]) -> str:
        """Approve the step that waits. Why it was refused; "" when it counts."""
        body = {
            "step": waiting["step"],
            "digest": waiting["digest"],
            "decision": "approve",
            "reason": "make demo --yes",
        }
        try:
            answer = await http.post(f"{self._case(case)}/decide", json=body, headers=self._as_person(), timeout=15)
        except httpx.HTTPError as error:
            return f"no answer ({type(error).__name__})"
        return "" if answer.is_success else answer.text[:300]

    def _case(self, case: str) -> str:
        return f"{self.url}/v1/cases/{quote(case, safe='/:')}"

    def _as_person(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.person}"}


async def start_interlock(
    tree: ProcessTree,
    fleet: Fleet,
    *,
    policy: PolicyName,
    temporal_address: str,
    ui_url: str,
    envoy_folder: Path,
    envoy_admin: str,
    front: str,
) -> Interlock:
    """Start worker and doors as one child process and wait until its doors answer."""
    folder = tree.folder / "interlock"
    folder.mkdir(parents=True, exist_ok=True)
    issuer = dev_issuer(folder / "issuer")
    token, port = secrets.token_urlsafe(24), free_ports(1)[0]
    (folder / "fleet.yaml").write_text(yaml.safe_dump(fleet.model_dump(mode="json"), sort_keys=False))
    write_policy(folder / "policy.yaml", policy)
    env = {
        "INTERLOCK_TEMPORAL__ADDRESS": temporal_address,
        "INTERLOCK_TEMPORAL__EAGER": "true",
        "INTERLOCK_INTAKE__PORT": str(port),
        "INTERLOCK_INTAKE__TOKEN": token,
        "INTERLOCK_PEOPLE__JWKS_FILE": str(issuer.settings.jwks_file),
        "INTERLOCK_PEOPLE__ISSUER": str(issuer.settings.issuer),
        "INTERLOCK_PEOPLE__AUDIENCE": str(issuer.settings.audience),
        "INTERLOCK_CLAIM_KEY_FILE": str(ensure_claim_key(folder / "claim.key")),
        "INTERLOCK_ENVOY__FOLDER": str(envoy_folder),
        "INTERLOCK_ENVOY__ADMIN_URL": envoy_admin,
        "INTERLOCK_ROUTE_URLS": json.dumps({r.name: front for r in fleet.routes}),
        "INTERLOCK_FLEET_FILE": str(folder / "fleet.yaml"),
        "INTERLOCK_POLICY_FILE": str(folder / "policy.yaml"),
        "INTERLOCK_JOURNAL_URL": f"sqlite:///{folder / 'journal.db'}",
        "INTERLOCK_PAGES_FILE": str(folder / "pages.log"),
        "INTERLOCK_UI_URL": ui_url,
    }
    child = tree.start("interlock", [sys.executable, "-m", "worker.demo.embedded"], env=env)
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(trust_env=False, timeout=2) as http:

        async def open_doors() -> bool:
            try:
                return (await http.get(f"{url}/readyz")).is_success
            except httpx.HTTPError:
                return False

        await tree.ready(child, open_doors, timeout_s=60)
    person = issuer.mint(PERSON, ("sre-oncall",))
    _write_env(folder / "env", {**env, "INTERLOCK_API_URL": url, "INTERLOCK_TOKEN": person})
    return Interlock(child, url, token, person, folder)


def _write_env(path: Path, env: Mapping[str, str]) -> None:
    """For a shell beside the demo: `. FILE`, and the command line works. It holds an hour's token of the demo's own issuer."""
    path.touch(mode=0o600)
    bin_ = shlex.quote(str(Path(sys.executable).parent))
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in env.items()]
    path.write_text("".join([*lines, f"export PATH={bin_}:$PATH\n"]))


def write_policy(path: Path, name: PolicyName) -> None:
    """The demo's policy; with `observe` the same, but every class only decides and records. CatalogError if it is bad."""
    policy = yaml.safe_load((Path(worker.demo.__file__).parent / "policy.yaml").read_text())
    if name == "observe":
        policy["default"]["mode"] = "observe"
        policy["classes"] = {c: {**rule, "mode": "observe"} for c, rule in policy["classes"].items()}
    path.write_text(yaml.safe_dump(policy, sort_keys=False))
    load_policy(path)
