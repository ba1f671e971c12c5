"""How fast `agentkit.parsing` reads: bytes a second, growth with length, and the cost of a token beside a decoder.

    python benchmarks/parsing.py [--quick] [--json FILE]

For each dialect a turn of about 100 KB (prose, reasoning and calls written by the dialect itself) is read whole and in
chunks of 4 characters, about a token each. Growth is the time for 1 MB in such chunks over ten times that for 100 KB: 1
is linear. A decoder at 100 tokens a second has 10 ms a token; the target is under 0.1 % of that.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

from agentkit.messages import ToolCall
from agentkit.parsing import DIALECTS, StreamParser

TOOLS = [
    {
        "name": "write_file",
        "description": "Write a file.",
        "parameters": {
            "type": "object",
            "properties": {"path": {"type": "string"}, "content": {"type": "string"}, "mode": {"type": "integer"}},
            "required": ["path", "content"],
        },
    }
]
PROSE = (
    "The build is green, but `make lint` warns about <unused> names (see the log, line 12).\n\n- first\n- second\n\n"
)
TOKEN = 4
DECODER_TOKENS_PER_SECOND = 100


def turn(dialect: str, size: int) -> str:
    """A turn of about ``size`` characters: half prose, half one call after another."""
    described = DIALECTS[dialect]
    content = "def f(x):\n    return [x, 1]\n" * 60
    call = ToolCall("write_file", {"path": "a.py", "content": content, "mode": 420})
    once = not (described.literals is None or described.literals.parallel)
    if once:
        call = ToolCall("write_file", {"path": "a.py", "content": content * (size // 2 // len(content))})
    prose = PROSE * (size // 2 // len(PROSE))
    calls = [call] * (1 if once else max(1, size // 2 // len(content)))
    return prose + described.write_calls(calls)


def seconds(function: Callable[[], object], repeat: int) -> float:
    """The best of several runs."""
    best = float("inf")
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


def read(text: str, dialect: str | None, size: int) -> int:
    """Read a turn in chunks of ``size``; the number of calls found."""
    parser = StreamParser(TOOLS, dialect)
    for at in range(0, len(text), size):
        parser.feed(text[at : at + size])
    parser.finish()
    return len(parser.result().calls)


def measure(dialect: str, *, named: bool, quick: bool) -> dict[str, object]:
    """All figures of one dialect."""
    repeat = 1 if quick else 3
    small, large = (20_000, 200_000) if quick else (100_000, 1_000_000)
    name = dialect if named else None
    text, long_text = turn(dialect, small), turn(dialect, large)
    calls = read(text, name, len(text))
    whole = seconds(lambda: read(text, name, len(text)), repeat)
    chunked = seconds(lambda: read(text, name, TOKEN), repeat)
    longer = seconds(lambda: read(long_text, name, TOKEN), repeat)
    per_token = chunked / (len(text) / TOKEN)
    return {
        "dialect": dialect if named else f"{dialect} (undetermined)",
        "bytes": len(text.encode()),
        "calls": calls,
        "whole_mb_per_s": len(text.encode()) / whole / 1e6,
        "chunked_mb_per_s": len(text.encode()) / chunked / 1e6,
        "us_per_token": per_token * 1e6,
        "share_of_decoder_percent": per_token * DECODER_TOKENS_PER_SECOND * 100,
        "growth": (longer / len(long_text)) / (chunked / len(text)),
    }


def main() -> None:
    """Print a table; with ``--json`` also write it to a file."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--quick", action="store_true", help="shorter texts, one run each")
    arguments.add_argument("--json", type=Path, help="write the figures to this file")
    given = arguments.parse_args()
    rows = [measure(dialect, named=True, quick=given.quick) for dialect in DIALECTS]
    rows += [measure(dialect, named=False, quick=given.quick) for dialect in ("hermes", "qwen3_coder", "bare_json")]
    heads = f"{'dialect':32}{'calls':>6}{'whole MB/s':>12}{'chunks MB/s':>13}{'µs/token':>10}"
    print(f"{heads}{'% of decoder':>14}{'growth':>8}")
    for row in rows:
        print(
            f"{row['dialect']:32}{row['calls']:>6}{row['whole_mb_per_s']:>12.2f}{row['chunked_mb_per_s']:>13.2f}"
            f"{row['us_per_token']:>10.2f}{row['share_of_decoder_percent']:>14.3f}{row['growth']:>8.2f}"
        )
    if given.json:
        machine = {"python": platform.python_version(), "machine": platform.machine(), "quick": given.quick}
        given.json.write_text(json.dumps({"benchmark": "parsing", **machine, "rows": rows}, indent=1), "utf-8")


if __name__ == "__main__":
    main()
