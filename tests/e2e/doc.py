"""The blocks of docs/starting-cases.md, taken out and run: what the page says is what works."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "starting-cases.md"


def blocks(section: str, language: str) -> list[str]:
    """Fenced blocks of a section, by the number and start of its heading."""
    text = PAGE.read_text()
    start = text.index(f"\n## {section}")
    end = text.find("\n## ", start + 1)
    return re.findall(rf"^```{language}\n(.*?)^```", text[start : end if end > 0 else None], re.MULTILINE | re.DOTALL)


async def run(script: str, **variables: str) -> str:
    """Runs a block as a person would, by bash with these variables. Returns what it prints; fails when it does."""
    beside = Path(sys.executable).parent  # where `temporal` lies in a virtual environment
    env = {"PATH": f"{beside}:{os.environ['PATH']}", "HOME": os.environ.get("HOME", "/"), **variables}
    child = await asyncio.create_subprocess_exec(
        "bash", "-euc", script, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await asyncio.wait_for(child.communicate(), 30)
    assert child.returncode == 0, f"{script}\n---\n{out.decode()}"
    return out.decode()
