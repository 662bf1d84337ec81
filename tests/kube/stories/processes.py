"""Interlock's own processes around a story, started as people start them: the doors, a node's worker, its detector."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from runbooks.fleet import Fleet
from runbooks.policy import Policy
from tests import lab as labs
from tests.kube.children import ending_with_us
from tests.kube.control_plane import ControlPlane
from tests.kube.stories.lab import TOKEN, Story
from worker.identity import DevIssuer, dev_issuer

AGENT = "system:serviceaccount:interlock:interlock-node-agent"


def agent_kubeconfig(plane: ControlPlane) -> Path:
    """Of the account that docs/rbac/node_agent.yaml makes."""
    return plane.kubeconfig_of("interlock-node-agent", plane.service_account_token("interlock", "interlock-node-agent"))


def patient(policy: Policy) -> Policy:
    """The same rules that hold longer: more processes share the machine, and the agent's word on a fault comes after the
    detector's."""
    return policy.model_copy(update={"timing": policy.timing.model_copy(update={"hold_limit_s": 60.0})})


class Processes:
    """Commands of `interlock` with the settings of one story. `fleet` is the inventory that they are given."""

    def __init__(self, story: Story, fleet: Fleet) -> None:
        self.folder = story.folder / "processes"
        self.folder.mkdir()
        self.issuer: DevIssuer = dev_issuer(self.folder / "issuer")
        self.url = f"http://127.0.0.1:{(port := labs.free_port())}"
        files = {"fleet.yaml": fleet.model_dump_json(), "policy.yaml": story.parts.policy.model_dump_json()}
        for name, text in files.items():
            (self.folder / name).write_text(text)
        (key := self.folder / "claim.key").touch(mode=0o600)
        key.write_bytes(labs.CLAIM_KEY)
        people = self.issuer.settings
        self._settings = {
            "TEMPORAL__ADDRESS": story.client.service_client.config.target_host,
            "TEMPORAL__NAMESPACE": story.client.namespace,
            "FLEET_FILE": str(self.folder / "fleet.yaml"),
            "POLICY_FILE": str(self.folder / "policy.yaml"),
            "JOURNAL_URL": f"sqlite:///{story.folder / 'journal.db'}",
            "PAGES_FILE": str(self.folder / "pages.log"),
            "INTAKE__PORT": str(port),
            "INTAKE__TOKEN": TOKEN,
            "PEOPLE__JWKS_FILE": str(people.jwks_file),
            "PEOPLE__ISSUER": str(people.issuer),
            "PEOPLE__AUDIENCE": str(people.audience),
            "CLAIM_KEY_FILE": str(key),
            "KUBERNETES__KUBECONFIGS": json.dumps({story.cluster.name: str(agent_kubeconfig(story.plane))}),
            "API_URL": self.url,
        }

    @asynccontextmanager
    async def running(self, name: str, *arguments: str, **environment: str) -> AsyncIterator[None]:
        """`interlock …` until the block ends; its log is NAME.log. AssertionError when it ended before."""
        with (self.folder / f"{name}.log").open("wb") as log:
            argv = ending_with_us([sys.executable, "-m", "worker", *arguments])
            child = await asyncio.create_subprocess_exec(*argv, env=self._env(environment), stdout=log, stderr=log)
        try:
            yield
            assert child.returncode is None, f"{name} ended before"
        except BaseException as error:
            error.add_note(f"--- {name} (status {child.returncode}):\n{self.log(name)}")
            raise
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
            try:
                await asyncio.wait_for(child.wait(), 10)
            except TimeoutError:
                child.kill()
                await child.wait()

    async def command(self, *arguments: str, **environment: str) -> str:
        """`interlock …` to its end; what it said. AssertionError when its status is not 0."""
        child = await asyncio.create_subprocess_exec(
            *ending_with_us([sys.executable, "-m", "worker", *arguments]),
            env=self._env(environment), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await asyncio.wait_for(child.communicate(), 60)
        assert child.returncode == 0, said.decode()
        return said.decode()

    async def approve(self, case: str, step: str, plan: str, who: str) -> str:
        """`interlock approve` in the name of a person on call, with the token of the person's issuer."""
        token = self.issuer.mint(who, ("sre-oncall",))
        given = ("--step", step, "--digest", plan, "--reason", "it is drained")
        return await self.command("approve", case, *given, INTERLOCK_TOKEN=token)

    async def doors_open(self) -> None:
        """Waits until `interlock intake` answers and reaches Temporal."""
        async with httpx.AsyncClient(trust_env=False, timeout=5) as http:

            async def ready() -> bool:
                try:
                    return (await http.get(f"{self.url}/readyz")).status_code == httpx.codes.OK
                except httpx.HTTPError:
                    return False

            await labs.until(ready, "the doors are open", 60)

    async def polls(self, name: str) -> None:
        """Waits until a worker polls its queue: before that its node has no hands, and gates say so at once."""

        async def polling() -> bool:
            return "polling interlock-" in (self.folder / f"{name}.log").read_text(errors="replace")

        await labs.until(polling, f"{name} polls", 60)

    def log(self, name: str) -> str:
        """The last lines of a process."""
        return "\n".join((self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-20:])

    def _env(self, more: dict[str, str]) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("INTERLOCK_")}
        return {**clean, **{f"INTERLOCK_{k}": v for k, v in self._settings.items()}, **more}
