"""The NVML detector's memory on disk: after a reboot somebody must take back what was told before it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from pydantic import ValidationError

from worker.detect_nvml_book import Book, BookState

log = logging.getLogger("interlock.detect")


class StateFile:
    """One file for one node's detector. Neither a broken nor an unwritable one stops detection: it is logged."""

    def __init__(self, path: Path, boot: str) -> None:
        self._path = path
        self._boot = boot

    def load(self, book: Book) -> None:
        """Takes up what an earlier run told, if any."""
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return
        except OSError as error:
            log.error("%s cannot be read, alerts told before will not be taken back: %s", self._path, error.strerror)
            return
        try:
            book.resume(BookState.model_validate_json(text), self._boot)
        except ValidationError:
            log.error("%s is not a detector's state, alerts told before will not be taken back", self._path)

    def text(self, book: Book) -> str:
        """What to save of it."""
        return book.state(self._boot).model_dump_json()

    def save(self, text: str) -> None:
        """On disk when it returns, or a line in the log. Blocks."""
        new = self._path.with_name(self._path.name + ".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with new.open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self._path)
        except OSError as error:
            log.error("%s cannot be written: %s", self._path, error.strerror)
