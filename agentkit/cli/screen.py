"""What the subcommands share of the terminal: two streams, tables, and text that cannot steer it."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.text import Text

__all__ = ["ERR", "OUT", "clean", "one_line", "print_table", "replace_unencodable", "show_error", "size"]

# Markup, emoji names and highlighting are off: what models, tools and plugins write is shown as it is.
OUT: Final = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
ERR: Final = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)

# C0 but newline and tab, DEL, C1, and the marks that reorder what is on a line.
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """The text without control characters: no escape sequence survives, newlines and tabs do."""
    return _CONTROLS.sub("", text)


def one_line(text: str, limit: int = 2000) -> str:
    """The text, clean, on one line of at most ``limit`` characters."""
    line = clean(" ".join(text.split()))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def show_error(message: str) -> None:
    """One line on stderr: ``error: …``."""
    ERR.print(Text.assemble(("error: ", "bold red"), one_line(message)))


def print_table(rows: Iterable[Sequence[str]]) -> None:
    """Rows on stdout: aligned on a terminal, separated by tabs where a program reads them."""
    cleaned = [[one_line(cell) for cell in row] for row in rows]
    if not OUT.is_terminal:
        for row in cleaned:
            print("\t".join(row))
        return
    from rich.table import Table

    table = Table.grid(padding=(0, 3, 0, 0))
    for _ in range(max(map(len, cleaned), default=0)):
        table.add_column(overflow="fold")
    for row in cleaned:
        table.add_row(*map(Text, row))
    OUT.print(table, soft_wrap=False)


def size(count: int) -> str:
    """Bytes for people: ``94 MB`` (1 MB is 1,000,000 bytes)."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def replace_unencodable() -> None:
    """Where a stream cannot encode a character (an old locale, a lone surrogate), write ``?`` instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
