"""A real Prometheus and a real Alertmanager (Debian's) as child processes, quick enough for a test."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from string import Template
from typing import Any

from tests import lab as labs

PROMETHEUS = "/usr/bin/prometheus"
ALERTMANAGER = "/usr/bin/prometheus-alertmanager"


@contextmanager
def alertmanager(folder: Path, config: str, **variables: str) -> Iterator[str]:
    """Alertmanager with this configuration, its ${VARIABLES} filled in. Yields its address, host:port."""
    path = folder / "alertmanager.yml"
    path.write_text(Template(config).safe_substitute(variables))
    address = f"127.0.0.1:{labs.free_port()}"
    argv = [
        ALERTMANAGER,
        f"--config.file={path}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",  # alone, and on loopback only
    ]
    with _child(argv, folder / "alertmanager.log"):
        yield address


@contextmanager
def prometheus(folder: Path, lab: labs.Lab, rules: str, alerts_to: str) -> Iterator[str]:
    """Prometheus that scrapes every engine of the lab each second and judges `rules`. Yields its address, host:port."""
    (folder / "rules.yml").write_text(rules)
    engines = [
        {"targets": [e.address], "labels": {"cluster": labs.CLUSTER, "service": e.pool}} for e in lab.engines.values()
    ]
    config: dict[str, Any] = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alerts_to]}]}]},
        "scrape_configs": [{"job_name": "engines", "static_configs": engines}],
    }
    path = folder / "prometheus.yml"
    path.write_text(json.dumps(config))  # JSON is YAML
    address = f"127.0.0.1:{labs.free_port()}"
    argv = [
        PROMETHEUS,
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={address}",
        "--rules.alert.resend-delay=1s",
    ]
    with _child(argv, folder / "prometheus.log"):
        yield address


@contextmanager
def _child(argv: list[str], log: Path) -> Iterator[None]:
    with ExitStack() as stack:
        out = stack.enter_context(log.open("ab"))
        process = subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.kill()  # nothing of a test is worth flushing
            process.wait(10)
