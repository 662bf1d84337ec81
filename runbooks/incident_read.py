"""Reads an incident file. Every mistake is one sentence with file, line, field and the fix, and all are told at once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from runbooks.incident import Incident
from runbooks.incident_schema import choices, fields, find
from runbooks.loader import CatalogError, Document, read
from runbooks.planning import near

Loc = tuple[int | str, ...]
_FIELD = re.compile(r"([a-z_]+(?:\[\d+\]|\.[^\s:.\[]+)*): (.*)", re.DOTALL)
_YAML = {
    "mapping values are not allowed": "text that holds `: ` must be in quotes",
    "cannot start any token": "use spaces and no tabs, and put text that begins with a special character in quotes",
    "could not find expected": "a line is not indented like its neighbours, or a quote does not end",
    "expected <block end>": "a line is not indented like its neighbours",
}


def read_incident(path: Path) -> tuple[Document, Incident]:
    """The file's lines and its content. CatalogError: one line per mistake."""
    document = _read(path)
    try:
        return document, Incident.model_validate_json(json.dumps(document.data), strict=True)
    except TypeError as error:
        raise CatalogError([f"{path}: only text, numbers, true, false, lists and mappings: {error}"]) from error
    except ValidationError as error:
        raise CatalogError(list(_sentences(document, error.errors()))) from error


def _read(path: Path) -> Document:
    try:
        return read(path)
    except CatalogError as error:
        (line,) = error.problems
        hint = next((h for words, h in _YAML.items() if words in line), "")
        raise CatalogError([f"{line}; {hint}" if hint else line]) from error


def _sentences(document: Document, errors: Sequence[ErrorDetails]) -> Iterator[str]:
    """By place, in the order of the file's models; what several members of a union say of one place is one sentence."""
    told: dict[str, list[str]] = {}
    for error in errors:
        for loc, text in _told(document, error):
            texts = told.setdefault(document.at(loc), [])
            texts += [text] if text not in texts else []
    for where, texts in told.items():
        yield f"{where}: {'; or '.join(texts)}"


def _told(document: Document, error: ErrorDetails) -> Iterator[tuple[Loc, str]]:
    loc = tuple(error["loc"])
    at, _ = _walk(document.data, loc)
    match error["type"]:
        case "value_error":
            for line in error["msg"].removeprefix("Value error, ").split("\n"):
                yield _placed(document, loc, line)
        case "union_tag_invalid":
            tags = [t.strip(" '") for t in error["ctx"]["expected_tags"].split(",")]
            key = error["ctx"]["discriminator"].strip("'")
            yield (*at, key), f"there is no {key} {error['ctx']['tag']!r}{near(error['ctx']['tag'], tags)}"
        case "union_tag_not_found":
            key = error["ctx"]["discriminator"].strip("'")
            yield at, f"say first which {key} it is, such as `{key}: hang`"
        case "too_short" if error["input"]:
            pass  # it is not empty: what is in it has mistakes of its own, which are told
        case "missing":
            yield (*at, loc[-1]), _advice("missing", loc, error)
        case kind:
            yield at, _advice(kind, loc, error)


def _advice(kind: str, loc: Loc, error: ErrorDetails) -> str:
    given, schema = error["input"], find(loc) or find(loc[:-1]) or {}
    has = "" if isinstance(given, dict | list) else f", and the file has {given!r:.60}"
    match kind:
        case "extra_forbidden":
            names = list(fields(find(loc[:-1]) or {}))
            return f"there is no such field here{near(str(loc[-1]), names)}"
        case "missing":
            words = str(schema.get("description", "")).split("\n")[0]
            return "this field is missing; add it" + (f" ({words.rstrip('.')})" if words else "")
        case "literal_error" | "enum":
            return f"there is no {given!r} here{near(str(given), choices(schema))}"
        case "string_pattern_mismatch":
            return f"a name holds no space, slash, pipe, backtick or angle bracket{has}"
        case "timezone_aware":
            return f"the time zone is missing; for UTC write Z at its end{has}"
        case "datetime_parsing" | "datetime_from_date_parsing" | "datetime_type":
            return f"write a time such as 2024-04-10T18:00:00Z{has}"
        case "less_than_equal" if schema.get("maximum") == 1:
            return f"a share is from 0 to 1: 25 % is 0.25{has}"
        case "string_type":
            return f"text is wanted here; put it in quotes{has}" if has else "text is wanted here"
        case "float_type" | "int_type" | "int_from_float":
            return f"a {'whole ' * kind.startswith('int')}number is wanted here{has}"
        case "bool_type":
            return f"write true or false{has}"
        case "too_short":
            return "give at least one"
        case "model_type" | "model_attributes_type" | "dict_type":
            some = ", ".join(fields(schema)) or "name: value"
            return f"a mapping is wanted here, with fields such as {some}"
        case "tuple_type" | "list_type":
            return "a list is wanted here: lines that begin with `- `, or [one, two]"
        case _:
            return error["msg"][0].lower() + error["msg"][1:] + has


def _placed(document: Document, loc: Loc, line: str) -> tuple[Loc, str]:
    """A validator's sentence `field: text`, with the place of that field. Items of a list may be called by their name."""
    start, here = _walk(document.data, loc)
    match = _FIELD.fullmatch(line)
    if match is None:
        return start, line
    words = [int(w) if w.isdigit() else w for w in re.findall(r"[^.\[\]]+", match[1])]
    at, last = _walk(here, words)
    if len(at) == len(words):
        return (*start, *at), match[2]
    if isinstance(last, dict):  # a field that the file leaves out
        return (*start, *at, words[len(at)]), match[2]
    return (*start, *at), line


def _walk(here: Any, parts: Sequence[int | str]) -> tuple[Loc, Any]:
    """As far as the parts lead, and what is there. pydantic's names of union members are passed over."""
    at: list[int | str] = []
    for part in parts:
        found = _inside(here, part)
        if found is not None:
            at.append(found[0])
            here = found[1]
    return tuple(at), here


def _inside(here: Any, part: int | str) -> tuple[int | str, Any] | None:
    """The key or index of a part, and what is there. None: there is nothing of this name."""
    if isinstance(here, dict) and part in here:
        return part, here[part]
    if isinstance(here, list) and isinstance(part, int) and part < len(here):
        return part, here[part]
    if isinstance(here, list):
        return next(((i, x) for i, x in enumerate(here) if isinstance(x, dict) and x.get("name") == part), None)
    return None
