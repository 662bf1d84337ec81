"""The environment, read once and in this file only. Prefix INTERLOCK_, nested names by two underscores.

Examples: INTERLOCK_TEMPORAL__ADDRESS, INTERLOCK_INTAKE__TOKEN_FILE, INTERLOCK_ROUTE_URLS='{"chat": "http://…"}'.
Secrets are SecretStr: by value, or by a `…_FILE` that holds them. A wrong value is one sentence, and so is an unknown
INTERLOCK_ name: a misspelt one must not be a silent default.
"""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

import runbooks
from worker.errors import OperatorError

PREFIX = "INTERLOCK_"
CATALOG = Path(runbooks.__file__).parent / "catalog"


class BadSettings(OperatorError):
    """One sentence per wrong variable, naming it and never its value."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _one_secret(value: SecretStr | None, file: Path | None, name: str) -> SecretStr | None:
    if value is not None and file is not None:
        raise ValueError(f"{name} and {name}_file are both set: keep one")
    if file is None:
        secret = value
    else:
        try:
            secret = SecretStr(file.read_text().strip())
        except OSError as error:
            raise ValueError(f"{name}_file cannot be read: {error.strerror}") from None
    if secret is not None and not secret.get_secret_value():
        raise ValueError(f"{name} is empty: an empty secret would let anybody in")
    return secret


class TemporalSettings(_Part):
    """How to reach Temporal. An API key implies TLS."""

    address: str = "127.0.0.1:7233"
    namespace: str = "default"
    tls: bool = False
    tls_server_name: str | None = None
    tls_ca_file: Path | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    api_key: SecretStr | None = None
    api_key_file: Path | None = None
    eager: bool = Field(
        default=False,
        description="Start workflows eagerly: only where worker and intake share a process and are unversioned.",
    )

    deployment: str | None = Field(
        default=None,
        pattern=r"^[^\s.]+$",
        description="Worker deployment that this worker is of (worker versioning); cases end on the build they began on.",
    )
    build_id: str | None = Field(default=None, min_length=1, description="Which build of the deployment this is.")
    metrics_bind: str | None = Field(
        default=None,
        pattern=r"^[^\s/]+:\d{1,5}$",
        description="`interlock worker` serves the SDK's own metrics there for Prometheus, e.g. 127.0.0.1:9465.",
    )

    @model_validator(mode="after")
    def _check(self) -> TemporalSettings:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file go together: give both or neither")
        if (self.deployment is None) != (self.build_id is None):
            raise ValueError("deployment and build_id go together: give both or neither")
        if self.build_id is not None and self.eager:
            raise ValueError("eager cannot be true with a build_id: an eager start passes by worker versioning")
        self.key()
        return self

    def key(self) -> SecretStr | None:
        """The API key, read from its file when it is given by file."""
        return _one_secret(self.api_key, self.api_key_file, "api_key")


class IntakeSettings(_Part):
    """The door for detectors."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    token: SecretStr | None = None
    token_file: Path | None = None
    max_body_bytes: int = Field(default=1 << 20, ge=1024, le=64 << 20)
    rpc_timeout_s: float = Field(default=3.0, gt=0, le=30, description="One call to Temporal, retries included.")
    page_after_s: float = Field(default=60.0, gt=0, description="Temporal away this long: the intake pages by itself.")
    most_waiting: int = Field(
        default=20_000, ge=100, description="Detections that may wait for Temporal; over it senders are answered 503."
    )
    most_waiting_bytes: int = Field(
        default=32 << 20,
        ge=1 << 20,
        description="Bodies that may be under way at once; in memory each is a few times as much.",
    )
    batch_signals: bool = Field(default=True, description="Several detections in one `detect` signal, as a list.")
    default_cluster: str | None = Field(default=None, description="For alerts that name a target but no cluster.")
    cluster_labels: tuple[str, ...] = ("cluster",)
    service_labels: tuple[str, ...] = ("service", "pool", "model_pool")
    endpoint_labels: tuple[str, ...] = ("endpoint", "instance")
    node_labels: tuple[str, ...] = ("node", "Hostname", "kubernetes_node")
    gpu_labels: tuple[str, ...] = ("gpu",)

    @model_validator(mode="after")
    def _check(self) -> IntakeSettings:
        self.bearer()
        if self.most_waiting_bytes < self.max_body_bytes:
            raise ValueError("most_waiting_bytes must be at least max_body_bytes: no body would ever be taken")
        return self

    def bearer(self) -> SecretStr | None:
        """The token that detectors present; None: the intake refuses to start."""
        return _one_secret(self.token, self.token_file, "token")


class PeopleSettings(_Part):
    """Who people are: their issuer's public keys. `jwks_file` or `jwks_url`, not both."""

    jwks_file: Path | None = None
    jwks_url: str | None = None
    issuer: str | None = None
    audience: str | None = None
    groups_claim: str = "groups"

    @model_validator(mode="after")
    def _check(self) -> PeopleSettings:
        if self.jwks_file is not None and self.jwks_url is not None:
            raise ValueError("jwks_file and jwks_url are both set: keep one")
        if self.configured and not (self.issuer and self.audience):
            raise ValueError(
                "issuer and audience are needed beside the JWKS: a token for somebody else must not count here"
            )
        return self

    @property
    def configured(self) -> bool:
        """True when people can be verified at all."""
        return self.jwks_file is not None or self.jwks_url is not None


class WatchSettings(_Part):
    """`interlock watch`: what it looks at, and where Prometheus finds what it saw."""

    host: str = "127.0.0.1"
    port: int = Field(default=9464, ge=0, le=65535)
    every_s: float = Field(default=15.0, gt=0, le=60, description="Time between two rounds, seconds.")
    rpc_timeout_s: float = Field(default=4.0, gt=0, le=30, description="One question, retries included.")
    intake_urls: tuple[str, ...] = Field(
        default=(), description="Base URLs of the intakes, one each: whether they are ready is asked."
    )


class EnvoySettings(_Part):
    """Envoy's xDS folder (RTDS and EDS files) and its admin API."""

    folder: Path | None = None
    admin_url: str | None = None


class KubernetesSettings(_Part):
    """The control planes of the fleet's clusters, and where weights live."""

    kubeconfigs: dict[str, Path | Literal["in-cluster"]] = Field(
        default_factory=dict,
        description="Cluster of the fleet → kubeconfig file, or in-cluster. Empty: none is touched.",
    )
    weights: Literal["envoy", "gateway"] = Field(
        default="envoy", description="envoy: RTDS file of INTERLOCK_ENVOY. gateway: HTTPRoutes of the Gateway API."
    )
    route_namespace: str = Field(default="default", description="Namespace of the HTTPRoutes.")
    fence_namespace: str = Field(default="interlock", description="Namespace of the ConfigMap that fences writes.")
    timeout_s: float = Field(default=5.0, gt=0, le=30, description="One call to an API server.")

    @model_validator(mode="after")
    def _check(self) -> KubernetesSettings:
        if self.weights == "gateway" and not self.kubeconfigs:
            raise ValueError(
                "weights is gateway and kubeconfigs is empty: name the cluster whose HTTPRoutes carry them"
            )
        return self


class NodeSettings(_Part):
    """What a node's own worker runs, as argv: never a shell."""

    host_pids: bool | None = Field(
        default=None,
        description="Whether it sees every process of the node. Unset: found out. A reset is refused where it does not.",
    )
    reset_argv: tuple[str, ...] = Field(
        default=("nvidia-smi", "--gpu-reset", "-i", "{index}"), description="{index} becomes the GPU's."
    )
    persistence_argv: tuple[str, ...] = Field(
        default=("nvidia-smi", "-pm", "{mode}", "-i", "{index}"),
        description="{mode} becomes 0 before a reset and 1 after.",
    )
    reboot_argv: tuple[str, ...] = ("systemctl", "reboot")
    boot_id_file: Path = Path("/proc/sys/kernel/random/boot_id")
    publish_s: float = Field(default=10.0, gt=0, description="How often GPU health is published on the Node, seconds.")
    lock: Path | None = Field(
        default=None,
        description="Path without suffix that all Interlock processes of the node share, e.g. /run/interlock/nvml.",
    )
    boot_wait_s: float = Field(
        default=240.0, gt=0, le=280, description="How long the next boot is waited for, seconds."
    )
    bmc_system: str = Field(default="1", description="Id or path of the node's computer system in its Redfish service.")
    bmc_reset: Literal["GracefulRestart", "ForceRestart"] = "ForceRestart"
    bmc_token_file: Path | None = Field(default=None, description="File with the X-Auth-Token of the Redfish service.")


class Settings(BaseSettings):
    """Everything that differs between two places where Interlock runs."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=False,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    temporal: TemporalSettings = TemporalSettings()
    intake: IntakeSettings = IntakeSettings()
    people: PeopleSettings = PeopleSettings()
    watch: WatchSettings = WatchSettings()
    envoy: EnvoySettings = EnvoySettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
    node: NodeSettings = NodeSettings()
    journal_url: str = "sqlite:///interlock.db"
    fleet_file: Path | None = None
    policy_file: Path | None = None
    catalog_dir: Path = CATALOG
    route_urls: dict[str, str] = Field(
        default_factory=dict, description="Route name → URL where real generations are asked."
    )
    prometheus_url: str | None = None
    look_every_s: float = Field(
        default=1.0,
        gt=0,
        le=60,
        description="How often a worker asks every engine of the fleet for a token, seconds: at most policy's scrape_period_s.",
    )
    webhook_url: SecretStr | None = Field(
        default=None, description="Where pages go. Often holds a token, so it is a secret."
    )
    pages_file: Path = Field(default=Path("interlock-pages.log"), description="Where pages go when no webhook is set.")
    ui_url: str = "http://127.0.0.1:8233"
    otlp_endpoint: str | None = Field(
        default=None, description="Base URL of an OTLP/HTTP receiver; none: nothing is exported."
    )
    claim_key_file: Path | None = Field(
        default=None, description="32 bytes or more, mode 0600, shared by API and worker."
    )
    api_url: str = Field(default="http://127.0.0.1:8080", description="Where the command line finds the API.")
    token: SecretStr | None = Field(default=None, description="The person's own JWT, for the command line.")

    def claim_key(self) -> bytes:
        """The HMAC key. BadSettings when it is not given, too short, or open to others."""
        name = f"{PREFIX}CLAIM_KEY_FILE"
        if self.claim_key_file is None:
            raise BadSettings(f"{name} is not set: people's decisions cannot be signed or checked without it")
        try:
            mode = stat.S_IMODE(self.claim_key_file.stat().st_mode)
            key = self.claim_key_file.read_bytes()
        except OSError as error:
            raise BadSettings(f"{name} cannot be read: {error.strerror}") from None
        if mode & 0o077:
            raise BadSettings(f"{name} names a file of mode {mode:04o}: others can read it, make it 0600")
        if len(key) < 32:
            raise BadSettings(f"{name} names a file of {len(key)} bytes: give 32 random bytes or more")
        return key


def load() -> Settings:
    """Settings from the environment. BadSettings with one sentence per wrong or unknown variable."""
    unknown = [
        _unknown(name) for name in sorted(os.environ) if name.startswith(PREFIX) and name not in set(variables())
    ]
    try:
        settings = Settings()
    except ValidationError as error:
        raise BadSettings(
            "; ".join([*unknown, *(_sentence(dict(e)) for e in error.errors(include_input=False))])
        ) from None
    except SettingsError as error:
        field = str(error).split('"')[1] if '"' in str(error) else "?"
        raise BadSettings(f"{PREFIX}{field.upper()} is not valid JSON: write it as a JSON object or list") from None
    if unknown:
        raise BadSettings("; ".join(unknown))
    return settings


def api_server_of_pod() -> tuple[str, int]:
    """Host and port of the API server, as Kubernetes tells every pod."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port.isdigit():
        raise BadSettings(
            f"{PREFIX}KUBERNETES__KUBECONFIGS: in-cluster works in a pod only; outside of one name a kubeconfig file"
        )
    return host, int(port)


def variables() -> Iterator[str]:
    """Every variable that is read, by its full name."""
    for name, field in Settings.model_fields.items():
        yield f"{PREFIX}{name}".upper()
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Part):
            yield from (f"{PREFIX}{name}__{inner}".upper() for inner in field.annotation.model_fields)


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, list(variables()), n=1)
    return f"{name} is not a setting" + (f": did you mean {near[0]}?" if near else "")


def _sentence(error: dict[str, Any]) -> str:
    where = "__".join(str(part) for part in error["loc"] if part != "function-after").upper()
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{PREFIX}{where}: {message[0].lower()}{message[1:]}"
