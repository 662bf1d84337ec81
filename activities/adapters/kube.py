"""The Cluster port on the Kubernetes API: compare-and-set on its objects under a fence, each write read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from activities.adapters.kube_api import KubeApi
from activities.adapters.kube_fence import KubeFence
from activities.adapters.kube_keys import NODE_AGENT, ROLES, Key, domain_of, parse, workload_of, workloads
from activities.adapters.kube_read import picture, together
from activities.adapters.kube_rules import checked
from activities.adapters.kube_settings import settings
from activities.adapters.kube_state import GPU, state
from activities.adapters.kube_store import KubeStore
from activities.adapters.kube_swap import ClusterSwap
from activities.adapters.kube_try import end_try, try_node
from activities.adapters.kube_unit import units
from activities.adapters.reading import Clock, utc_now
from activities.adapters.swapping import finished
from activities.checkpoint import Checkpoint, no_checkpoint
from activities.errors import Ambiguous, Permanent
from activities.ports import ClusterSnapshot
from runbooks.change import Change, Permit
from runbooks.facts import Settings
from runbooks.fleet import Fleet

FENCE = "interlock/interlock-fence"


class KubeCluster:
    """`activities.ports.Cluster` on one API server, or on one for each domain.

    `clock` gives the time that permits are judged by. `checkpoint` is called at "after_before_read", after each write
    at "after_write", and at "before_read_back": crash tests end the process there. `fence` is NAMESPACE/NAME of a
    ConfigMap that is there already (docs/rbac/fence.yaml). `gpu` is the resource that counts GPUs.
    """

    def __init__(
        self,
        fleet: Fleet,
        api: KubeApi | Mapping[str, KubeApi],
        *,
        clock: Clock = utc_now,
        checkpoint: Checkpoint = no_checkpoint,
        fence: str = FENCE,
        gpu: str = GPU,
    ) -> None:
        self._fleet = fleet
        self._apis = dict.fromkeys(fleet.domains(), api) if isinstance(api, KubeApi) else dict(api)
        self._clock = clock
        self._checkpoint = checkpoint
        self._fence = fence.split("/", 1)
        self._gpu = gpu

    async def read(self, domain: str) -> ClusterSnapshot:
        """One picture of the whole domain. Permanent: no such domain, no fence, or a role is missing."""
        mine = workloads(self._fleet, domain)
        namespaces = [w.namespace for w in mine.values()]
        api = self._api(domain)
        seen = await picture(api, self._fences(api), domain, namespaces, self._clock)
        found = state(seen, mine, self._gpu)
        return ClusterSnapshot(
            settings=settings(seen, found, mine, self._fleet, domain),
            observed_at=seen.observed_at,
            epoch=seen.mark.epoch if seen.mark is not None else 0,
            permit_id=seen.mark.permit_id if seen.mark is not None else "",
            state=found,
        )

    async def effective(self, keys: Sequence[str]) -> Settings:
        """What the objects say now, each asked for afresh; a key unknown to the fleet or the cluster is absent."""
        known: dict[str, list[Key]] = {}
        for key in (parse(k) for k in keys):
            if key is not None and (home := domain_of(self._fleet, key)) is not None:
                known.setdefault(home, []).append(key)
        looks = [self._store(home).look(unit) for home, some in sorted(known.items()) for unit in units(some)]
        return {key: value for seen in await together(*looks) for key, value in seen.settings.items()}

    async def swap(self, change: Change, permit: Permit) -> ClusterSnapshot:
        """Compare-and-set of settings of one domain; returns when every object shows them.

        Refused: see the port; also an eviction that a disruption budget does not allow. Retryable: nothing written.
        Ambiguous: a part may be applied; the same permit again goes on where it stopped.
        """
        keys = checked(self._fleet, change, permit, ROLES.keys() - NODE_AGENT)
        await self.read(permit.domain)  # what could not be read after the act must stop us before it
        work = ClusterSwap(self._store(permit.domain), change, permit, keys, self._clock, self._checkpoint)
        await finished(work, work.run())
        try:
            return await self.read(permit.domain)
        except Permanent as error:
            raise Ambiguous(f"applied, but what stands there now cannot be read: {error}") from error

    async def try_node(self, node: str, pool: str, name: str) -> str | None:
        """One extra replica on the node, beside the scheduler; its address once it is ready."""
        workload = workload_of(self._fleet, pool)
        return await try_node(self._of(pool), workload, node, pool, name)

    async def end_try(self, pool: str, name: str) -> None:
        """Takes that replica away, at once. Gone already: no error."""
        await end_try(self._of(pool), workload_of(self._fleet, pool), pool, name)

    def _api(self, domain: str) -> KubeApi:
        if domain not in self._apis:
            raise Permanent(f"no API server is set for domain {domain!r}; there is one for {sorted(self._apis)}")
        return self._apis[domain]

    def _of(self, pool: str) -> KubeApi:
        found = self._fleet.pool(pool)
        return self._api(found.cluster if found is not None else "")

    def _store(self, domain: str) -> KubeStore:
        api = self._api(domain)
        return KubeStore(api, self._fleet, self._fences(api))

    def _fences(self, api: KubeApi) -> KubeFence:
        return KubeFence(api, *self._fence)
