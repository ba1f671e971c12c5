"""How often a model makes the right call: the Berkeley Function Calling Leaderboard (v4), judged by its own checker.

    pip install --no-deps bfcl-eval==2026.3.23
    python benchmarks/tool_accuracy.py [--model MODEL] [--peer llama-server] [--peer llama-cpp-python]
        [--categories simple,multiple,…] [--cases N] [--seed S] [--quick] [--tool-choice auto|required]
        [--show-wrong] [--json FILE]

One call of the model for each case, at temperature 0: no loop, no second try. A peer answers the same cases from the
same GGUF file, after the provider. Columns: right by the checker (for irrelevance: no call; for relevance: any);
called, with at least one call; valid, of the turns with calls those whose calls all fit their tools' schemas; failed,
with an error of the engine, which is never right. Accuracy on calls means nothing without restraint, so the last lines
always hold both.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from _bfcl import AST, CATEGORIES, IRRELEVANCE, RELEVANCE, Case, load_cases
from _engines import AUTO_ONLY, PEERS, Engine, Turn, engine

PACKAGES = ("bfcl-eval", "agentkit-framework", "llama-cpp-python", "llguidance", "xllamacpp")

Verdict = dict[str, Any]


def judge(ask: Engine, case: Case, tool_choice: str) -> Verdict:
    """Ask, and have the answer checked."""
    start = time.perf_counter()
    turn, failure = Turn([]), ""
    try:
        turn = ask(case, tool_choice)
    except Exception as error:  # whatever an engine raises is its failure on this case
        failure = f"{type(error).__name__}: {error}"
    fault = failure or case.fault(turn.calls)
    return {
        "category": case.category,
        "right": not fault,
        "called": bool(turn.calls),
        "valid": bool(turn.calls) and case.fits(turn.calls),
        "failed": bool(failure),
        "fault": fault,
        "calls": [vars(call) for call in turn.calls],
        "text": turn.text,
        "problems": turn.problems,
        "seconds": round(time.perf_counter() - start, 2),
    }


def measure(name: str, model: str, cases: Sequence[Case], tool_choice: str) -> Iterator[dict[str, Verdict]]:
    """The verdicts of one engine by the case's id, each time that there is one more."""
    verdicts: dict[str, Verdict] = {}
    with engine(name, model) as ask:
        for case in cases:
            verdicts[case.id] = judge(ask, case, tool_choice)
            right = sum(verdict["right"] for verdict in verdicts.values())
            print(f"{name}: {right} of {len(verdicts)} right, {len(cases)} in all", file=sys.stderr, flush=True)
            yield verdicts


def figures(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Counts, and the mean time of a case."""
    counts = {key: sum(verdict[key] for verdict in verdicts) for key in ("right", "called", "valid", "failed")}
    return {"cases": len(verdicts), **counts, "seconds": sum(verdict["seconds"] for verdict in verdicts)}


def summary(verdicts: Sequence[Verdict]) -> dict[str, dict[str, float]]:
    """Figures by category, and over those that are of one kind."""
    groups = {category: (category,) for category in CATEGORIES}
    groups |= {"AST overall": AST, "irrelevance overall": IRRELEVANCE, "relevance overall": RELEVANCE}
    found = {name: [verdict for verdict in verdicts if verdict["category"] in group] for name, group in groups.items()}
    return {name: figures(group) for name, group in found.items() if group}


def percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}" if whole else "-"


def table(name: str, rows: dict[str, dict[str, float]]) -> None:
    """One engine's figures by category."""
    heads = f"{'right %':>9}{'called %':>10}{'valid %':>9}{'failed':>8}{'s/case':>8}"
    print(f"\n{name:24}{'cases':>6}{heads}")
    for category in CATEGORIES:
        if row := rows.get(category):
            print(
                f"{category:24}{row['cases']:>6}{percent(row['right'], row['cases']):>9}"
                f"{percent(row['called'], row['cases']):>10}{percent(row['valid'], row['called']):>9}"
                f"{row['failed']:>8}{row['seconds'] / row['cases']:>8.1f}"
            )


def overall(name: str, rows: dict[str, dict[str, float]]) -> None:
    """Calls and restraint in one line."""
    parts = []
    for label, key in (
        ("AST", "AST overall"),
        ("irrelevance", "irrelevance overall"),
        ("relevance", "relevance overall"),
    ):
        row = rows.get(key)
        parts.append(
            f"{label} {percent(row['right'], row['cases'])} % of {row['cases']}" if row else f"{label} not asked"
        )
    failed = sum(row["failed"] for key, row in rows.items() if key.endswith("overall"))
    print(f"{name:24}{', '.join(parts)}; {failed} failed")


def show_wrong(cases: Sequence[Case], verdicts: dict[str, Verdict]) -> None:
    """What was asked, done and found wrong."""
    for case in cases:
        verdict = verdicts[case.id]
        if not verdict["right"]:
            print(f"\nwrong: {case.id}: {case.messages[-1]['content']}")
            written = [f"{call['name']}({call['arguments']})" for call in verdict["calls"]]
            print(f"  {' '.join(written) or verdict['text'][:300]}")
            print(f"  {verdict['fault'][:600]}")


def installed() -> dict[str, str | None]:
    """The versions that figures depend on."""
    found: dict[str, str | None] = {"python": platform.python_version(), "machine": platform.machine()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="llama_cpp:smollm2")
    parser.add_argument("--peer", action="append", default=[], choices=PEERS, help="what else runs the same GGUF file")
    parser.add_argument("--categories", default=",".join(CATEGORIES), help="by default all: %(default)s")
    parser.add_argument("--cases", type=int, default=30, help="of each category (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which cases are drawn (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="8 cases of each category")
    parser.add_argument("--tool-choice", default="auto", choices=("auto", "required"))
    parser.add_argument("--show-wrong", action="store_true")
    parser.add_argument("--json", type=Path, help="write all figures and each case's verdict to this file")
    chosen = parser.parse_args()
    chosen.categories = chosen.categories.split(",")
    if unknown := [category for category in chosen.categories if category not in CATEGORIES]:
        parser.error(f"--categories: no category {', '.join(unknown)}: there are {', '.join(CATEGORIES)}")
    if chosen.tool_choice != "auto" and (unable := [peer for peer in chosen.peer if peer in AUTO_ONLY]):
        parser.error(f"--peer {unable[0]} takes no --tool-choice but auto")
    return chosen


def main() -> None:
    chosen = options()
    count = 8 if chosen.quick else chosen.cases
    dots = chosen.model.startswith("llama_cpp:")  # elsewhere a name is letters, digits, _ and -
    cases = load_cases(chosen.categories, count, chosen.seed, dots=dots)
    report: dict[str, Any] = {"benchmark": "tool_accuracy", "model": chosen.model, "tool_choice": chosen.tool_choice}
    report |= {"seed": chosen.seed, "cases_a_category": count, "versions": installed(), "engines": {}}
    for name in ("agentkit", *chosen.peer):
        for verdicts in measure(name, chosen.model, cases, chosen.tool_choice):
            report["engines"][name] = {"summary": summary(list(verdicts.values())), "cases": verdicts}
            if chosen.json:  # each time: a long run that is broken off has not been for nothing
                chosen.json.write_text(json.dumps(report, indent=1, ensure_ascii=False), "utf-8")
        if chosen.show_wrong:
            show_wrong(cases, verdicts)
        table(name, report["engines"][name]["summary"])
    print(f"\n{chosen.model}, tool_choice={chosen.tool_choice}, seed {chosen.seed}")
    for name, found in report["engines"].items():
        overall(name, found["summary"])


if __name__ == "__main__":
    main()
