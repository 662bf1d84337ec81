"""How to reach one API server, and as whom: from a kubeconfig file or from inside the cluster."""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from activities.errors import Permanent

IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_NOT_HERE = {"exec", "auth-provider", "username", "password"}
_NOT_EITHER = {"insecure-skip-tls-verify", "proxy-url", "tls-server-name"}


class Token:
    """A bearer token that never changes; None: the client certificate says who we are."""

    def __init__(self, text: str | None) -> None:
        self._text = text

    def text(self) -> str | None:
        """The token to send now."""
        return self._text

    def renew(self) -> bool:
        """True when there is another token than the one that was refused."""
        return False

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"


class TokenFile(Token):
    """A token that its issuer writes anew from time to time: read again when the file changes."""

    def __init__(self, path: Path) -> None:
        super().__init__(None)
        self._path = path
        self._seen: tuple[int, int, int] | None = None

    def text(self) -> str | None:
        """The token as the file has it now. Permanent: no such file."""
        try:
            now = os.stat(self._path)
            seen = (now.st_mtime_ns, now.st_ino, now.st_size)
            if seen != self._seen:
                self._text, self._seen = self._path.read_text(encoding="ascii").strip(), seen
        except (OSError, ValueError) as error:
            raise Permanent(f"the token file {self._path} cannot be read: {type(error).__name__}") from error
        return self._text

    def renew(self) -> bool:
        """Reads the file whatever its times say."""
        old, self._seen = self._text, None
        return self.text() != old


@dataclass(frozen=True)
class KubeAccess:
    """One API server, and who we are there. A token never shows in `repr`."""

    server: str
    token: Token
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        url = httpx.URL(self.server)
        if url.scheme == "https" and self.tls is not None:
            return
        if url.scheme != "http" or url.host not in {"127.0.0.1", "localhost", "::1"}:
            raise Permanent(
                f"{url.scheme}://{url.host}: an API server is spoken to by https; http only on this machine"
            )


def in_cluster(host: str, port: int, folder: Path = IN_CLUSTER) -> KubeAccess:
    """The account of the pod that this runs in; host and port as Kubernetes gives them to every pod."""
    shown = f"[{host}]" if ":" in host else host
    return KubeAccess(f"https://{shown}:{port}", TokenFile(folder / "token"), _tls(cafile=folder / "ca.crt"))


def from_kubeconfig(path: Path, context: str = "") -> KubeAccess:
    """`context` of the file, or its current one. Permanent: names the field that is missing or not supported."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it is not YAML"
        raise Permanent(f"kubeconfig {path} cannot be read: {why}") from error
    if not isinstance(data, dict):
        raise Permanent(f"kubeconfig {path} is not a mapping")
    chosen = _named(data, "contexts", context or str(data.get("current-context") or ""), path)["context"]
    cluster = _named(data, "clusters", str(chosen.get("cluster", "")), path)["cluster"]
    user = _named(data, "users", str(chosen.get("user", "")), path).get("user") or {}
    for given, known in ((user, _NOT_HERE), (cluster, _NOT_EITHER)):
        if odd := sorted(known & set(given)):
            raise Permanent(f"kubeconfig {path}: {', '.join(odd)} is not supported; use a service account's token")
    if "server" not in cluster:
        raise Permanent(f"kubeconfig {path}: the cluster has no server")
    base, ca = path.parent, cluster.get("certificate-authority")
    tls = None
    if str(cluster["server"]).startswith("https:"):
        tls = _tls(base / ca if ca else None, _decoded(cluster, "certificate-authority-data", path))
        _certificate(tls, user, base, path)
    if "tokenFile" in user:
        return KubeAccess(cluster["server"], TokenFile(base / user["tokenFile"]), tls)
    return KubeAccess(cluster["server"], Token(user.get("token")), tls)


def _named(data: dict[str, Any], part: str, name: str, path: Path) -> dict[str, Any]:
    for entry in data.get(part) or []:
        if isinstance(entry, dict) and entry.get("name") == name:
            return entry
    raise Permanent(f"kubeconfig {path}: {part} has no {name!r}")


def _decoded(given: dict[str, Any], field_name: str, path: Path) -> bytes | None:
    if field_name not in given:
        return None
    try:
        return base64.b64decode(given[field_name], validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise Permanent(f"kubeconfig {path}: {field_name} is not base64") from error


def _tls(cafile: Path | None = None, cadata: bytes | None = None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(
            cafile=str(cafile) if cafile else None, cadata=cadata.decode("ascii") if cadata else None
        )
    except (OSError, ValueError) as error:
        raise Permanent(f"the cluster's certificate authority cannot be used: {type(error).__name__}") from error


def _certificate(tls: ssl.SSLContext, user: dict[str, Any], base: Path, path: Path) -> None:
    """Loads the user's certificate, when there is one."""
    found = [
        _decoded(user, f"{name}-data", path) or (base / user[name]).read_bytes()
        for name in ("client-certificate", "client-key")
        if name in user or f"{name}-data" in user
    ]
    if not found:
        return
    if len(found) == 1:
        raise Permanent(f"kubeconfig {path}: a client certificate needs its key, and the key its certificate")
    # ssl only loads files: one that nobody else may read, for the time of the call.
    with tempfile.NamedTemporaryFile(suffix=".pem") as pem:
        pem.write(b"\n".join(found))
        pem.flush()
        try:
            tls.load_cert_chain(pem.name)
        except (OSError, ssl.SSLError) as error:
            raise Permanent(f"kubeconfig {path}: the client certificate cannot be used") from error
