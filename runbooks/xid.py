"""XID codes as data: NVIDIA's catalogue, and our reading of it as class and lever. Data: catalog/xid.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from runbooks.base import Model, Name
from runbooks.library import SHIPPED
from runbooks.loader import CatalogError, load
from runbooks.taxonomy import UNKNOWN, Taxonomy

FILE = "xid.yaml"
_NOT_TOLD = ("IGNORE", "XID_154")
XidLever = Literal["reset_gpu", "reboot_node", "restart_engine", "rebalance_nodes", "page"]


class Meaning(Model):
    """Our inference: what an action of NVIDIA's asks of Interlock."""

    failure_class: Name = Field(alias="class")
    lever: XidLever
    why: str = Field(min_length=1)


class Row(Model):
    """NVIDIA's facts about one code."""

    code: int = Field(ge=1)
    mnemonic: str = Field(min_length=1)
    action: Name


class Columns(Model):
    """Whose word each column is."""

    nvidia: tuple[str, ...]
    ours: tuple[str, ...]


class XidFile(Model):
    """The file as written."""

    source: str = Field(min_length=1)
    licence: str = Field(min_length=1)
    columns: Columns
    actions: dict[Name, Meaning]
    xids: tuple[Row, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> XidFile:
        codes = [row.code for row in self.xids]
        for code in codes:
            if codes.count(code) > 1:
                raise ValueError(f"xids: code {code} is given twice; keep one")
        for row in self.xids:
            if row.action not in self.actions:
                raise ValueError(f"xids: code {row.code} names the action {row.action}, which is not in `actions`")
        return self


class Xid(Model):
    """One code: NVIDIA's mnemonic and immediate action, and the class and lever that we infer from them."""

    code: int
    mnemonic: str
    action: str
    failure_class: Name
    lever: XidLever
    why: str

    @property
    def quiet(self) -> bool:
        """True when it opens no case: NVIDIA says that nothing is to be done, or that the GPU's recovery action changed,
        which is read from the GPU itself."""
        return self.action in _NOT_TOLD


def xid_table(folder: Path | None = None) -> Mapping[int, Xid]:
    """Every XID of a catalogue folder (the shipped one when none is given), by code.

    Raises CatalogError naming file, line and field; classes and levers must be in the taxonomy of the same folder.
    """
    root = folder or SHIPPED
    path = root / FILE
    table, taxonomy = load(path, XidFile), load(root / "taxonomy.yaml", Taxonomy)
    for action, meaning in table.actions.items():
        if taxonomy.get(meaning.failure_class) is None:
            raise CatalogError([f"{path}:1: actions.{action}: there is no failure class {meaning.failure_class!r}"])
        if meaning.lever not in taxonomy.levers:
            raise CatalogError([f"{path}:1: actions.{action}: the taxonomy knows no lever {meaning.lever!r}"])
    return {row.code: _xid(row, table.actions[row.action]) for row in table.xids}


def xid_of(table: Mapping[int, Xid], code: int) -> Xid:
    """What a code means. One that the table lacks only pages: it may be newer than the table, and worse than any in it."""
    if code in table:
        return table[code]
    why = "this XID is not in NVIDIA's catalogue as we have it"
    return Xid(code=code, mnemonic="unknown", action="NOT_LISTED", failure_class=UNKNOWN, lever="page", why=why)


def _xid(row: Row, meaning: Meaning) -> Xid:
    return Xid(
        code=row.code, mnemonic=row.mnemonic, action=row.action, failure_class=meaning.failure_class,
        lever=meaning.lever, why=meaning.why,
    )  # fmt: skip
