"""One thing that is wrong, or odd, in an incident file that can be read."""

from __future__ import annotations

from typing import Literal

from runbooks.base import Model
from runbooks.loader import Document


class Finding(Model):
    """One sentence about one field. A warning may be meant, and is easily missed."""

    severity: Literal["error", "warning"]
    field: tuple[str | int, ...]
    text: str

    def line(self, document: Document) -> str:
        """`error: file:line: field: sentence`."""
        return f"{self.severity}: {document.at(self.field)}: {self.text}"


def error(text: str, *field: str | int) -> Finding:
    """It cannot be meant."""
    return Finding(severity="error", field=field, text=text)


def warning(text: str, *field: str | int) -> Finding:
    """It may be meant."""
    return Finding(severity="warning", field=field, text=text)
