"""`python -m tests.write_readme`: writes the README's table of gates anew, from the gates."""

from __future__ import annotations

from pathlib import Path

from runbooks.gate_table import with_table

README = Path(__file__).parents[1] / "README.md"

if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
