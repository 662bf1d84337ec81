"""The fence of each domain: which permit went last, in one ConfigMap that is only ever written by compare-and-set."""

from __future__ import annotations

import re

from pydantic import ValidationError

from activities.adapters.kube_api import KubeApi
from activities.adapters.kube_errors import Conflict, Json, NotFound
from activities.adapters.kube_rules import Mark, fenced
from activities.errors import Ambiguous, Permanent, Retryable
from runbooks.change import Permit

ROLE = "fence.yaml"
TRIES = 8
"""Other domains of the same cluster write the same ConfigMap."""
_KEY = re.compile(r"^[-._a-zA-Z0-9]{1,253}$")


class KubeFence:
    """ConfigMap `name` in `namespace`; it must be there (docs/rbac/fence.yaml): a fence that is lost is no open gate."""

    def __init__(self, api: KubeApi, namespace: str = "interlock", name: str = "interlock-fence") -> None:
        self._api = api
        self._where = f"{namespace}/{name}"
        self._path = f"/api/v1/namespaces/{namespace}/configmaps/{name}"

    async def mark(self, domain: str) -> Mark | None:
        """Who went last; None before the first. Permanent: no ConfigMap, or what it holds is mangled."""
        return self._mark(await self._read(), domain)

    async def enter(self, permit: Permit, marks: dict[str, int]) -> Mark:
        """Raises the fence for this permit. The same permit again: its first mark stands. Refused: see `fenced`."""
        for last in [False] * (TRIES - 1) + [True]:
            found = await self._read()
            mark = self._mark(found, permit.domain)
            if fenced(mark, permit):
                assert mark is not None
                return mark
            fresh = Mark(epoch=permit.epoch, permit_id=permit.id, marks=marks)
            data = {**(found.get("data") or {}), permit.domain: fresh.model_dump_json()}
            version = {"op": "replace", "path": "/metadata/resourceVersion", "value": _version(found)}
            try:
                await self._api.patch(self._path, [version, {"op": "add", "path": "/data", "value": data}], role=ROLE)
            except Conflict:
                if last:
                    raise
                continue
            except Ambiguous as error:
                # Only the fence may stand: nothing of the change does, and the same permit goes through it again.
                raise Retryable(
                    f"whether the fence was raised is not known, and nothing else was written: {error}"
                ) from error
            return fresh
        raise AssertionError("unreachable")

    async def hold(self, permit: Permit) -> None:
        """Refused when a later permit has gone through since. Asked again before each further write."""
        if not fenced(await self.mark(permit.domain), permit):
            raise Permanent(f"the fence of {permit.domain} in {self._where} has been taken back: somebody edited it")

    async def _read(self) -> Json:
        try:
            return await self._api.get(self._path, ROLE)
        except NotFound as error:
            raise Permanent(f"there is no ConfigMap {self._where}: apply docs/rbac/{ROLE}") from error

    def _mark(self, found: Json, domain: str) -> Mark | None:
        if not _KEY.match(domain):
            raise Permanent(f"domain {domain!r} cannot be a key of a ConfigMap: letters, digits, '-', '_' and '.' only")
        text = (found.get("data") or {}).get(domain)
        if text is None:
            return None
        try:
            return Mark.model_validate_json(text)
        except ValidationError as error:
            # Not "no fence": that would let every late attempt through.
            how = f'set {domain} to {{"epoch": HIGHEST, "permit_id": "ANY"}}'
            raise Permanent(f"the fence of {domain} in {self._where} is not usable: {how}") from error


def _version(thing: Json) -> str:
    return str(thing["metadata"]["resourceVersion"])
