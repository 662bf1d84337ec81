"""Imported by the fork server before it forks: what the first worker of a process pays for is then paid once for all."""

from __future__ import annotations

import threading

from temporalio.worker._worker import load_default_build_id

from tests.crash import worker_process
from tests.crash_kube import worker_process as on_a_cluster

# The default name of a worker's build is a hash of all modules that are loaded: 1.5 s on one core.
load_default_build_id()
assert threading.active_count() == 1, "a process with threads must not be forked"
__all__ = ["on_a_cluster", "worker_process"]
