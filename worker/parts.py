"""What a worker is made of, from the settings: the one place for `interlock worker` and for the embedded profile."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

from temporalio.client import Client

from activities.adapters.sql import SqlJournal
from activities.ports import Notify
from runbooks.library import load_library
from runbooks.linting import check
from runbooks.policy import Policy
from runbooks.policy_check import require_sound
from worker.clusters import Clusters
from worker.doors import fleet_of, policy_of
from worker.settings import BadSettings, Settings
from worker.telemetry import Telemetry
from worker.telemetry_record import recorder
from worker.versions import version_of
from worker.wiring import Parts

log = logging.getLogger("interlock.worker")


def envoy_of(settings: Settings) -> tuple[Path | None, str]:
    """Folder and admin URL of the edge. BadSettings when one is missing: there is no default place to change traffic."""
    if settings.envoy.folder is None and settings.kubernetes.weights == "envoy":
        raise BadSettings("INTERLOCK_ENVOY__FOLDER is not set: name the folder of Envoy's xDS files")
    if settings.envoy.admin_url is None:
        raise BadSettings("INTERLOCK_ENVOY__ADMIN_URL is not set: acts are read back there")
    return settings.envoy.folder, settings.envoy.admin_url


def look_every_s(settings: Settings, policy: Policy) -> float:
    """How often the fleet is looked at, seconds. BadSettings when gates would find every look too old (G1)."""
    every, bound = settings.look_every_s, policy.timing.scrape_period_s
    if every > bound:
        raise BadSettings(
            f"INTERLOCK_LOOK_EVERY_S is {every:g} s and policy's timing.scrape_period_s is {bound:g} s: gates would find "
            "every look too old; look as often as that, or raise it"
        )
    return every


def parts_of(
    settings: Settings,
    *,
    client: Client,
    journal: SqlJournal,
    notify: Notify,
    telemetry: Telemetry,
    clusters: Clusters | None = None,
) -> Parts:
    """Fleet, policy and catalogue are read here, once. BadSettings or CatalogError say what is wrong with them."""
    folder, admin = envoy_of(settings)
    fleet = fleet_of(settings)
    for problem in check(settings.catalog_dir, fleet):
        # Not refused: the other runbooks are good, and in an incident a step that cannot be planned is left out.
        log.warning("catalogue: %s", problem)
    policy, library = policy_of(settings), load_library(settings.catalog_dir)
    for warning in require_sound(policy, library, fleet, datetime.now(UTC)):
        log.warning("policy: %s", warning)
    found = clusters or Clusters()
    return Parts(
        client=client,
        fleet=fleet,
        policy=policy,
        library=library,
        journal=journal,
        notify=notify,
        claim_key=settings.claim_key(),
        envoy_folder=folder,
        envoy_admin=admin,
        route_urls=settings.route_urls,
        prometheus_url=settings.prometheus_url,
        version=version_of(settings.temporal),
        watch_period_s=look_every_s(settings, policy),
        observe=recorder(telemetry.instruments),
        cluster=found.cluster,
        routes=found.routes,
    )
