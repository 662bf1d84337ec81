"""Imported by the fork server before it forks: the modules of an intake, which its command imports as late as it can."""

from __future__ import annotations

import threading

import uvicorn

from worker import cli, doors, intake_process, serving, telemetry, temporal
from worker.commands import intake

assert threading.active_count() == 1, "a process with threads must not be forked"
__all__ = ["cli", "doors", "intake", "intake_process", "serving", "telemetry", "temporal", "uvicorn"]
