"""How each program of the control plane is started: its argv, and the files that it reads."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.kube.audit import POLICY
from tests.ports import free_port

STAGES = Path(__file__).parent / "stages" / "nodes.yaml"
USERS = ("admin", "lab:controller-manager", "lab:scheduler", "lab:kwok", "lab:kubelet")
"""All are cluster administrators; separate names, so that the audit log tells who wrote."""
PORTS = ("etcd", "etcd-peer", "apiserver", "controller-manager", "scheduler", "kwok")


def free_ports() -> dict[str, int]:
    """A port of 127.0.0.1 for each listener, no two the same."""
    found: dict[str, int] = {}
    while len(found) < len(PORTS):
        port = free_port()
        if port not in found.values():
            found[PORTS[len(found)]] = port
    return found


@dataclass(frozen=True)
class Timing:
    """What makes a cluster quick or slow to react, in seconds."""

    not_ready_toleration_s: int = 3
    """How long a pod stays bound to a node that is NotReady before it is deleted; the same for unreachable."""
    monitor_period_s: float = 0.5
    monitor_grace_s: float = 12.0
    """How long a node may be silent before it is Unknown."""
    lease_s: int = 8


@dataclass(frozen=True)
class Files:
    """The folder of one control plane."""

    folder: Path
    ports: dict[str, int]
    tokens: dict[str, str]

    @property
    def url(self) -> str:
        """Of the API server."""
        return f"https://127.0.0.1:{self.ports['apiserver']}"

    @property
    def ca_file(self) -> Path:
        """The serving certificate that the API server signs for itself at its first start."""
        return self.folder / "certs" / "apiserver.crt"

    @property
    def audit_log(self) -> Path:
        """JSON lines."""
        return self.folder / "audit.log"

    def kubeconfig(self, user: str, token: str) -> Path:
        """Write (once) the kubeconfig of a user and return its path."""
        path = self.folder / f"kubeconfig-{user.replace(':', '-').replace('/', '-')}"
        cluster = {"server": self.url, "certificate-authority": str(self.ca_file)}
        body = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
            "current-context": "lab",
        }
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(body))
        return path


def write_files(folder: Path) -> Files:
    """Keys, tokens and the audit policy, in a folder that is made."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = Files(folder.absolute(), free_ports(), {user: secrets.token_urlsafe(24) for user in USERS})
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (folder / "sa.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    rows = [f'{token},{user},{user},"system:masters"\n' for user, token in files.tokens.items()]
    (folder / "tokens.csv").write_text("".join(rows))
    (folder / "audit-policy.yaml").write_text(POLICY)
    return files


def etcd(binary: Path, files: Files) -> list[str]:
    """etcd without fsync: the data need not outlive the session."""
    client, peer = (f"http://127.0.0.1:{files.ports[p]}" for p in ("etcd", "etcd-peer"))
    return [
        str(binary), "etcd", "--data-dir", str(files.folder / "etcd"), "--unsafe-no-fsync", "--log-level", "warn",
        "--listen-client-urls", client, "--advertise-client-urls", client,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
    ]  # fmt: skip


def apiserver(binary: Path, files: Files, timing: Timing) -> list[str]:
    """RBAC and token authentication on, a serving certificate of its own, every write audited before it is answered."""
    folder, toleration = files.folder, str(timing.not_ready_toleration_s)
    return [
        str(binary), "apiserver", "--etcd-servers", f"http://127.0.0.1:{files.ports['etcd']}",
        "--bind-address", "127.0.0.1", "--secure-port", str(files.ports["apiserver"]),
        "--advertise-address", "127.0.0.1", "--cert-dir", str(folder / "certs"), "--endpoint-reconciler-type", "none",
        "--service-cluster-ip-range", "10.96.0.0/16", "--service-account-issuer", "https://lab.invalid",
        "--service-account-key-file", str(folder / "sa.key"),
        "--service-account-signing-key-file", str(folder / "sa.key"),
        "--token-auth-file", str(folder / "tokens.csv"), "--authorization-mode", "RBAC",
        "--default-not-ready-toleration-seconds", toleration, "--default-unreachable-toleration-seconds", toleration,
        "--audit-policy-file", str(folder / "audit-policy.yaml"), "--audit-log-path", str(files.audit_log),
        "--audit-log-mode", "blocking",
    ]  # fmt: skip


def controller_manager(binary: Path, files: Files, timing: Timing) -> list[str]:
    """All controllers, with a node monitor that looks often."""
    config = str(files.kubeconfig("lab:controller-manager", files.tokens["lab:controller-manager"]))
    return [
        str(binary), "controller-manager", "--kubeconfig", config, "--authentication-kubeconfig", config,
        "--authorization-kubeconfig", config, "--bind-address", "127.0.0.1",
        "--secure-port", str(files.ports["controller-manager"]), "--leader-elect=false",
        "--service-account-private-key-file", str(files.folder / "sa.key"), "--use-service-account-credentials=false",
        "--node-monitor-period", f"{timing.monitor_period_s}s",
        "--node-monitor-grace-period", f"{timing.monitor_grace_s}s",
        "--kube-api-qps", "200", "--kube-api-burst", "400",
    ]  # fmt: skip


def scheduler(binary: Path, files: Files) -> list[str]:
    """The default scheduler."""
    config = str(files.kubeconfig("lab:scheduler", files.tokens["lab:scheduler"]))
    return [
        str(binary), "scheduler", "--kubeconfig", config, "--authentication-kubeconfig", config,
        "--authorization-kubeconfig", config, "--bind-address", "127.0.0.1",
        "--secure-port", str(files.ports["scheduler"]), "--leader-elect=false",
    ]  # fmt: skip


def kwok(binary: Path, files: Files, timing: Timing) -> list[str]:
    """Nodes only: it renews their leases and posts Ready or, under a label, NotReady."""
    config = str(files.kubeconfig("lab:kwok", files.tokens["lab:kwok"]))
    return [
        str(binary), "--kubeconfig", config, "--manage-all-nodes", "--config", str(STAGES),
        "--node-lease-duration-seconds", str(timing.lease_s), "--server-address", f"127.0.0.1:{files.ports['kwok']}",
    ]  # fmt: skip
