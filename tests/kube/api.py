"""A small synchronous client for tests: requests with the errors said, and server-side apply of manifests."""

from __future__ import annotations

import json
import ssl
import time
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import yaml

MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
STRATEGIC = "application/strategic-merge-patch+json"
PATIENCE_S = 40
"""How long the same is applied again to a server that is busy."""


@cache
def trust(ca_file: Path) -> ssl.SSLContext:
    """Trusts this one authority. Kept: building one costs milliseconds."""
    return ssl.create_default_context(cafile=str(ca_file))


class Api:
    """Requests to one API server as one user. Every answer outside 2xx raises httpx.HTTPStatusError with the body."""

    def __init__(self, url: str, ca_file: Path, token: str) -> None:
        self.http = httpx.Client(
            base_url=url,
            verify=trust(ca_file),
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
            trust_env=False,
        )
        self._paths: dict[tuple[str, str], tuple[str, bool]] = {}

    def close(self) -> None:
        """Closes the connections."""
        self.http.close()

    def request(
        self, method: str, path: str, body: Any = None, kind: str = "application/json", **params: Any
    ) -> dict[str, Any]:
        """One request; the JSON object that came back."""
        content = None if body is None else json.dumps(body)
        answer = self.http.request(method, path, content=content, headers={"content-type": kind}, params=params)
        if not answer.is_success:
            text = f"{method} {path}: {answer.status_code} {answer.text[:500]}"
            raise httpx.HTTPStatusError(text, request=answer.request, response=answer)
        found: dict[str, Any] = answer.json()
        return found

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """GET."""
        return self.request("GET", path, **params)

    def merge(self, path: str, body: Any, **params: Any) -> dict[str, Any]:
        """JSON merge patch."""
        return self.request("PATCH", path, body, MERGE, **params)

    def delete(self, path: str, **params: Any) -> bool:
        """DELETE; False when it was not there."""
        try:
            self.request("DELETE", path, **params)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            return False
        return True

    def apply(self, manifest: dict[str, Any] | str, manager: str = "lab", force: bool = True) -> list[dict[str, Any]]:
        """Server-side apply of one manifest, or of a YAML text of several; what the server made of each."""
        documents = [manifest] if isinstance(manifest, dict) else [d for d in yaml.safe_load_all(manifest) if d]
        params = {"fieldManager": manager, "force": str(force).lower()}
        return [self._applied(d, params) for d in documents]

    def _applied(self, document: dict[str, Any], params: dict[str, str]) -> dict[str, Any]:
        # A server that has just come up on a busy machine is slow, or says 429 or 5xx. To apply twice is to apply once.
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self.request("PATCH", self.path_of(document), document, APPLY, **params)
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
                if (status != httpx.codes.TOO_MANY_REQUESTS and status < 500) or time.monotonic() > end:
                    raise
            except httpx.TransportError:
                if time.monotonic() > end:
                    raise
            time.sleep(0.2)

    def path_of(self, manifest: dict[str, Any]) -> str:
        """Where the object lives, by the server's own discovery. KeyError when it serves no such kind."""
        version, kind = manifest["apiVersion"], manifest["kind"]
        if (version, kind) not in self._paths:
            self._discover(version)
        plural, namespaced = self._paths[version, kind]
        space = f"namespaces/{manifest['metadata'].get('namespace', 'default')}/" if namespaced else ""
        return f"{_root(version)}/{space}{plural}/{manifest['metadata']['name']}"

    def _discover(self, version: str) -> None:
        for found in self.get(_root(version))["resources"]:
            if "/" not in found["name"]:
                self._paths[version, found["kind"]] = (found["name"], found["namespaced"])


def _root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"
