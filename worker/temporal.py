"""Building the Temporal client, and the search attributes that cases are listed by."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import timedelta

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client, Interceptor, Plugin
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode, TLSConfig

from worker.errors import OperatorError
from worker.settings import BadSettings, TemporalSettings

SEARCH_ATTRIBUTES = ("InterlockClass", "InterlockState", "InterlockService", "InterlockLever")
"""All of type Keyword. A workflow that upserts one that does not exist fails its tasks until it does."""
DEV_SERVER_ARGS = (
    *("--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=normal"),
    # Timers fire up to a second late by default: soaks and restores would be late as well.
    *("--dynamic-config-value", 'history.timerProcessorMaxTimeShift="10ms"'),
)
"""Of each dev server that we start: what is written in a burst stays quick, and timers are prompt."""
_KEYWORD = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
_PATIENCE = timedelta(seconds=10)


class TemporalAway(OperatorError):
    """Temporal could not be reached; the text names the address."""


class SearchAttributesRefused(OperatorError):
    """The server does not let us register them. The text ends in the exact command for somebody who may."""


async def connect(
    settings: TemporalSettings,
    *,
    plugins: Sequence[Plugin] = (),
    interceptors: Sequence[Interceptor] = (),
    lazy: bool = False,
    runtime: Runtime | None = None,
) -> Client:
    """A client with pydantic payloads. `lazy` connects at the first call: the intake must start while Temporal is away.

    TemporalAway when it cannot be reached now. `runtime`: the SDK's part that counts, see `metrics_runtime`.
    """
    key = settings.key()
    try:
        return await Client.connect(
            settings.address,
            namespace=settings.namespace,
            data_converter=pydantic_data_converter,
            api_key=key.get_secret_value() if key else None,
            tls=_tls(settings),
            plugins=list(plugins),
            interceptors=list(interceptors),
            lazy=lazy,
            runtime=runtime,
        )
    except RuntimeError as error:  # what the SDK raises when the first connection fails
        raise TemporalAway(f"Temporal does not answer at {settings.address}: {_short(error)}") from error


def metrics_runtime(settings: TemporalSettings) -> Runtime | None:
    """A runtime that serves the SDK's own metrics for Prometheus, failed workflow tasks among them; None when no address
    is set. One a process. BadSettings when the address cannot be listened on."""
    if settings.metrics_bind is None:
        return None
    # The names that docs/alerts/interlock.rules.yaml uses depend on these three.
    prometheus = PrometheusConfig(
        settings.metrics_bind, counters_total_suffix=True, unit_suffix=True, durations_as_seconds=True
    )
    try:
        return Runtime(telemetry=TelemetryConfig(metrics=prometheus))
    except (RuntimeError, ValueError) as error:
        raise BadSettings(
            f"INTERLOCK_TEMPORAL__METRICS_BIND: {settings.metrics_bind} cannot be listened on: {_short(error)}"
        ) from error


def _tls(settings: TemporalSettings) -> bool | TLSConfig:
    files = (settings.tls_ca_file, settings.tls_cert_file, settings.tls_key_file)
    if not any(files) and settings.tls_server_name is None:
        return settings.tls or settings.key() is not None
    ca, cert, key = (f.read_bytes() if f else None for f in files)
    return TLSConfig(server_root_ca_cert=ca, domain=settings.tls_server_name, client_cert=cert, client_private_key=key)


def _short(error: BaseException) -> str:
    return str(error).rsplit("message: ", 1)[-1].strip('"}) ')[:200]


async def register_search_attributes(client: Client) -> tuple[str, ...]:
    """Creates what is missing and returns the names created. Running it again changes nothing.

    SearchAttributesRefused where the server refuses or one exists with another type.
    """
    namespace = client.namespace
    try:
        known = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=namespace), timeout=_PATIENCE
        )
        existing = {**known.custom_attributes, **known.system_attributes}
        wrong = [n for n in SEARCH_ATTRIBUTES if n in existing and existing[n] != _KEYWORD]
        if wrong:
            raise SearchAttributesRefused(
                f"search attributes {', '.join(wrong)} exist in namespace {namespace!r} with another type than Keyword"
            )
        missing = tuple(n for n in SEARCH_ATTRIBUTES if n not in existing)
        if missing:
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(namespace=namespace, search_attributes=dict.fromkeys(missing, _KEYWORD)),
                timeout=_PATIENCE,
            )
    except RPCError as error:
        if error.status == RPCStatusCode.ALREADY_EXISTS:  # another worker was quicker
            return ()
        if error.status in (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED):
            raise TemporalAway(f"Temporal does not answer: {error.message}") from error
        raise SearchAttributesRefused(
            f"search attributes could not be registered ({error.message}). Somebody who may must run: "
            + create_command(client)
        ) from error
    return missing


def where_of(client: Client) -> list[str]:
    """Options of the Temporal CLI that name this client's server and namespace."""
    return ["--address", client.service_client.config.target_host, "--namespace", client.namespace]


def create_command(client: Client) -> str:
    """The exact command that registers all of them."""
    words = ["temporal", "operator", "search-attribute", "create", *where_of(client)]
    for name in SEARCH_ATTRIBUTES:
        words += ["--name", name, "--type", "Keyword"]
    return shlex.join(words)
