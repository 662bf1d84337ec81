"""`interlock worker` and `interlock intake` as processes of their own, set up by the environment alone, as in production."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import runbooks
from tests import lab as labs

TOKEN = "detector-token"
CATALOG = Path(runbooks.__file__).parent / "catalog"


def environment(lab: labs.Lab, folder: Path, intake_port: int, otlp: str) -> dict[str, str]:
    """Every setting that the two processes need, with the files that they name laid down in `folder`."""
    (folder / "fleet.yaml").write_text(lab.fleet.model_dump_json())  # JSON is YAML
    (folder / "policy.yaml").write_text(labs.policy().model_dump_json())
    key = folder / "claim.key"
    key.write_bytes(labs.CLAIM_KEY)
    key.chmod(0o600)
    mine = {
        "TEMPORAL__ADDRESS": lab.client.service_client.config.target_host,
        "FLEET_FILE": str(folder / "fleet.yaml"),
        "POLICY_FILE": str(folder / "policy.yaml"),
        "CATALOG_DIR": str(quick_catalog(folder / "catalog")),
        "CLAIM_KEY_FILE": str(key),
        "ENVOY__FOLDER": str(lab.folder / "edge"),
        "ENVOY__ADMIN_URL": lab.admin,
        "ROUTE_URLS": f'{{"chat": "{lab.front}"}}',
        "JOURNAL_URL": lab.journal_url,
        "PAGES_FILE": str(lab.folder / "pages.jsonl"),
        "INTAKE__PORT": str(intake_port),
        "INTAKE__TOKEN": TOKEN,
        "OTLP_ENDPOINT": otlp,
    }
    plain = {k: v for k, v in os.environ.items() if not k.startswith("INTERLOCK_")}
    return {**plain, **{f"INTERLOCK_{k}": v for k, v in mine.items()}}


def quick_catalog(folder: Path) -> Path:
    """The shipped catalogue with soaks of a second, as files."""
    shutil.copytree(CATALOG, folder)
    for path in (folder / "runbooks").glob("*.yaml"):
        text = re.sub(r"(soak_s|clear_for_s): \d+", r"\1: 1", path.read_text())
        text = re.sub(r"deadline_s: \d+", "deadline_s: 45", text)  # at most 60 samples, one a second
        path.write_text(re.sub(r"every_s: \d+", "every_s: 1", text))
    return folder


@contextmanager
def interlock(command: str, env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs one command until the block ends, then ends it as an operator would: SIGTERM, and time to flush."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker", command], env=env, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
                raise
