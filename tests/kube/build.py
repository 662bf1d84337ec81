"""Builds the Kubernetes programs that the tests run, once: `python -m tests.kube.build`.

What comes out lies in the user's cache folder under the hash of what went in, so nothing else here needs Go:
`controlplane` (etcd, apiserver, controller-manager, scheduler), `kwok`, and `crds/` of the Gateway API.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODULE = Path(__file__).parent / "controlplane"
INPUTS = ("go.mod", "go.sum", "main.go")
CRDS = ("gatewayclasses", "gateways", "httproutes", "referencegrants")
KWOK, GATEWAY = "sigs.k8s.io/kwok", "sigs.k8s.io/gateway-api"
HOW = "build it once with `python -m tests.kube.build` (Go 1.26, about 7 minutes on 2 cores)"


class MissingGo(Exception):
    """The programs are not built, and there is no Go to build them. The message is one line for people."""


class NotBuilt(Exception):
    """The programs are not built yet. The message is one line for people."""


class BuildFailed(Exception):
    """Go was there and could not build them. The message ends with what it said."""


def folder() -> Path:
    """Where the programs lie or will lie: the cache folder of this user, by the hash of the inputs."""
    seen = hashlib.sha256(" ".join(CRDS).encode())
    for name in INPUTS:
        raw = (MODULE / name).read_bytes()
        seen.update(f"{name} {len(raw)}\n".encode() + raw)
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "interlock" / "kube" / seen.hexdigest()


def built() -> Path:
    """The folder, when it is there. MissingGo or NotBuilt say in one line what to do when it is not."""
    place = folder()
    if not place.is_dir():
        go()
        raise NotBuilt(f"the Kubernetes control plane for tests is not built: {HOW}")
    return place


def binaries() -> Path:
    """The folder, built first when it is missing (minutes). MissingGo, BuildFailed."""
    place = folder()
    if place.is_dir():
        return place
    program = go()
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / ".lock").open("w") as lock:
        if not _locked(lock.fileno(), wait=False):
            print("another build of the Kubernetes control plane runs; waiting for it …", flush=True)
            _locked(lock.fileno(), wait=True)
        if not place.is_dir():
            for left in place.parent.glob(".build-*"):  # of a build that was killed; nobody else builds now
                shutil.rmtree(left)
            # Built beside and renamed: a build that dies leaves nothing that looks finished.
            with tempfile.TemporaryDirectory(dir=place.parent, prefix=".build-") as fresh:
                _build(program, Path(fresh) / "out")
                (Path(fresh) / "out").rename(place)
    return place


def go() -> str:
    """The go program. MissingGo when there is none."""
    found = shutil.which("go")
    if found is None:
        raise MissingGo(f"Go is missing, and with it the Kubernetes control plane for tests: {HOW}")
    return found


def _build(program: str, out: Path) -> None:
    began = time.monotonic()
    print(f"building the Kubernetes control plane for tests into {folder()} (once, minutes) …", flush=True)
    out.mkdir()
    options = ["-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w"]
    _go(program, "build", *options, "-o", f"{out}/", ".", f"{KWOK}/cmd/kwok")
    # Nothing of it is compiled, so on a fresh machine only this brings it; checked against go.sum like the rest.
    module = json.loads(_go(program, "mod", "download", "-json", GATEWAY))
    crds = Path(module["Dir"]) / "config" / "crd" / "standard"
    (out / "crds").mkdir()
    for kind in CRDS:
        shutil.copyfile(crds / f"gateway.networking.k8s.io_{kind}.yaml", out / "crds" / f"{kind}.yaml")
    print(f"built in {time.monotonic() - began:.0f} s", flush=True)


def _go(program: str, *arguments: str) -> str:
    # No cgo: the binaries then run on any Linux of this architecture, and no C compiler is needed.
    environment = {**os.environ, "CGO_ENABLED": "0"}
    began = time.monotonic()
    child = subprocess.Popen(
        [program, *arguments], cwd=MODULE, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while True:
        try:
            found, errors = child.communicate(timeout=60)
            break
        except subprocess.TimeoutExpired:
            print(f"… still building after {time.monotonic() - began:.0f} s", flush=True)
    if child.returncode != 0:
        said = "\n".join(errors.strip().splitlines()[-20:])
        if "requires go >=" in said:
            raise MissingGo(f"this Go is too old for the Kubernetes control plane ({said.splitlines()[-1]}): {HOW}")
        raise BuildFailed(f"go {arguments[0]} failed with status {child.returncode}:\n{said}")
    return found


def _locked(fd: int, *, wait: bool) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def main() -> int:
    """Builds when needed. Without Go it is an error in CI, and elsewhere one line: the tests on it say so and skip."""
    try:
        print(f"Kubernetes control plane for tests: {binaries()}", flush=True)
    except MissingGo as missing:
        print(missing, file=sys.stderr)
        return 1 if os.environ.get("CI") else 0
    except BuildFailed as failed:
        print(failed, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
