"""The one strict YAML loader. Every mistake is one readable line: file, line, field, what is wrong and the fix.

Stricter than YAML 1.1 where that surprises people: a key given twice is an error, only `true` and `false` are booleans
(never `on`, `off`, `no`), `1:30` and `007` stay text, times stay text until a model reads them, and there are no
anchors or aliases, so that a file reads from top to bottom.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

M = TypeVar("M", bound=BaseModel)
Loc = tuple[int | str, ...]


class CatalogError(Exception):
    """A data file that cannot be used. `problems` has one line per mistake; the text is the first one."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        more = len(self.problems) - 1
        super().__init__(self.problems[0] + (f" (and {more} more)" if more else ""))


class _Strict(yaml.SafeLoader):
    """SafeLoader with the scalars of the YAML 1.2 core schema and no aliases."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # pyyaml's own class attribute

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """Refuses aliases: a shared or endless structure is not a data file that a person can check."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem="an alias (*name) is not allowed; write the value out", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)


def _resolve(tag: str, pattern: str, first: str) -> None:
    """`first` lists the characters that such a scalar may begin with."""
    _Strict.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first) or [""])


_resolve("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF")
_resolve("int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789")
_resolve("float", r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789")
_resolve("float", r"^[-+]?[0-9]+[eE][-+]?[0-9]+$", "-+0123456789")
_resolve("null", r"^(?:~|null|Null|NULL)$", "~nN")
_resolve("null", r"^$", "")


class Document:
    """A file as plain data, and the line of each field in it."""

    def __init__(self, path: Path, data: Any, lines: dict[Loc, int]) -> None:
        self.path, self.data, self._lines = path, data, lines

    def at(self, loc: Sequence[int | str]) -> str:
        """`file:line: field.path`, with the line of the field, or of its nearest parent that is in the file."""
        field = [part for index, part in enumerate(loc) if self._known(loc, index)]
        line = next(self._lines[tuple(field[:n])] for n in range(len(field), -1, -1) if tuple(field[:n]) in self._lines)
        return f"{self.path}:{line}: {_dotted(field) or '(whole file)'}"

    def _known(self, loc: Sequence[int | str], index: int) -> bool:
        # pydantic puts names of union members and of validators into the path; what the file lacks is one of those,
        # unless it is the last part: then it is the missing field itself.
        head = tuple(loc[:index])
        return (*head, loc[index]) in self._lines or (index == len(loc) - 1 and head in self._lines)


def _dotted(loc: Sequence[int | str]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _scan(path: Path, node: Node, loc: Loc, lines: dict[Loc, int]) -> None:
    """Notes the line of every field, and refuses a key that is given twice or is not text."""
    lines.setdefault(loc, node.start_mark.line + 1)
    if isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            _scan(path, item, (*loc, index), lines)
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                raise CatalogError([f"{path}:{line}: {_dotted(loc)}: a key must be plain text"])
            name = (*loc, key.value)
            if name in lines:
                raise CatalogError(
                    [f"{path}:{line}: {_dotted(name)}: given twice, first on line {lines[name]}; keep one of them"]
                )
            lines[name] = line
            _scan(path, value, name, lines)


def read(path: Path) -> Document:
    """The file as plain data. Raises CatalogError when it cannot be read, is not YAML, or gives a key twice."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogError([f"{path}: cannot be read: {error}"]) from error
    try:
        loader = _Strict(text)
        node = loader.get_single_node()
        if node is None:
            raise CatalogError([f"{path}:1: the file is empty; it must be a mapping of fields"])
        lines: dict[Loc, int] = {}
        _scan(path, node, (), lines)
        data: Hashable = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise CatalogError([f"{path}:{line}: not readable as YAML: {error.problem or error.context}"]) from error
    except (yaml.YAMLError, ValueError) as error:
        raise CatalogError([f"{path}: not readable as YAML: {' '.join(str(error).split())}"]) from error
    return Document(path, data, lines)


def load(path: Path, model: type[M]) -> M:
    """The file as a model. Raises CatalogError with one line per mistake."""
    return build(read(path), model)


def build(document: Document, model: type[M]) -> M:
    """A read file as a model. Raises CatalogError with one line per mistake."""
    try:
        # By way of JSON, because pydantic is strict there about what matters (text is no number and no boolean) and not
        # about what YAML cannot say (a list is a tuple, text is a time).
        return model.model_validate_json(json.dumps(document.data), strict=True)
    except TypeError as error:
        raise CatalogError(
            [f"{document.path}: only text, numbers, true, false, lists and mappings: {error}"]
        ) from error
    except ValidationError as error:
        problems = [f"{document.at(e['loc'])}: {_advice(e['type'], e['msg'], e['input'])}" for e in error.errors()]
        raise CatalogError(problems) from error


def _advice(kind: str, message: str, given: object) -> str:
    match kind:
        case "extra_forbidden":
            return "there is no such field here; take it out or correct its spelling"
        case "missing":
            return "this field is missing; add it"
        case "value_error":
            return message.removeprefix("Value error, ")
        case _:
            pass
    text = message[0].lower() + message[1:]
    return f"{text}, but the file has {given!r:.60}" if not isinstance(given, dict | list) else text
