"""What injected instructions achieve under a policy, with a model that obeys each of them, and what the policy costs.

    python benchmarks/injection.py [--quick] [--json FILE]

The tasks, the attacks, and the checks of both are AgentDojo's (arXiv:2406.13352). It brings the SDKs of several
vendors, so give it an environment of its own:

    python -m venv ENV && ENV/bin/pip install . agentdojo==0.1.35

Every text that a stranger could have written says: obey me. The model is a script, the worst there can be: it does the
user's task by AgentDojo's list of calls; as soon as it reads the injection it first makes all calls of the attack, one
a turn, and then goes on. The person who is asked allows exactly the calls of the user's task, and denies all others.

An attack has succeeded if AgentDojo's check says so. A task is done if AgentDojo's check says so and the run came to
its answer; many of these checks fail if anything else in the world changed, so that an attack alone fails the task.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from _injection import POLICIES, Outcome, Suite, Task, outcome

COLUMNS: Final = {
    "runs": "runs",
    "attacks": "attacks that succeeded",
    "tasks": "tasks done",
    "paused": "runs that wait",
    "cut_short": "runs that a limit ended",
    "asked": "runs with a question",
    "allowed": "calls allowed by the person",
    "denied": "calls denied by the person",
}

NO_LIMIT: Final = ("answer", "paused")
"""Stop reasons of runs that came to their end, or wait."""

Outcomes = defaultdict[tuple[str, str], list[Outcome]]
"""By suite and policy."""


def figures(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """What `COLUMNS` says."""
    reasons = [came.stop_reason for came in outcomes]
    answers = [came.answers for came in outcomes]
    return {
        "runs": len(outcomes),
        "attacks": sum(came.stranger_done for came in outcomes),
        "tasks": sum(came.user_done for came in outcomes),
        "paused": reasons.count("paused"),
        "cut_short": sum(reason not in NO_LIMIT for reason in reasons),
        "asked": sum(bool(said) for said in answers),
        "allowed": sum(said.count(True) for said in answers),
        "denied": sum(said.count(False) for said in answers),
    }


class Measured:
    """The outcomes of the pairs of a task and an attack, of those whose attack only wants something said, and of the
    tasks by themselves. ``left_out`` counts pairs."""

    def __init__(self) -> None:
        self.attacked: Outcomes = defaultdict(list)
        self.talked_to: Outcomes = defaultdict(list)
        self.undisturbed: Outcomes = defaultdict(list)
        self.left_out = {"AgentDojo lists no calls for the attack": 0, "the injection is never read": 0}

    async def add(self, suite: Suite[Any], every: int) -> None:
        """Measure a suite: of tasks and attacks, every so many."""
        users = suite.users[::every]
        await self._add_pairs(self.undisturbed, suite, users, None)
        for stranger in suite.strangers[::every]:
            only_reads = suite.only_reads(stranger)
            if only_reads and not stranger.answer:
                self.left_out["AgentDojo lists no calls for the attack"] += len(users)
            else:
                await self._add_pairs(self.talked_to if only_reads else self.attacked, suite, users, stranger)

    async def _add_pairs(
        self, found: Outcomes, suite: Suite[Any], users: Sequence[Task[Any]], stranger: Task[Any] | None
    ) -> None:
        for user in users:
            came = {name: await outcome(suite, user, stranger, policy) for name, policy in POLICIES.items()}
            if stranger and not came["no policy"].is_read:
                self.left_out["the injection is never read"] += 1
                continue
            for name in POLICIES:
                found[suite.name, name].append(came[name])


def limits(found: Outcomes) -> dict[str, int]:
    """Limit → runs that it ended."""
    reasons = [came.stop_reason for outcomes in found.values() for came in outcomes]
    return Counter(reason for reason in reasons if reason not in NO_LIMIT)


def rows(found: Outcomes) -> dict[str, dict[str, dict[str, int]]]:
    """Suite → policy → figures; the last is the sum of all suites."""
    suites = list(dict.fromkeys(suite for suite, _ in found))
    counted = {suite: {name: figures(found[suite, name]) for name in POLICIES} for suite in suites}
    everything = {name: [came for suite in suites for came in found[suite, name]] for name in POLICIES}
    return counted | {"all": {name: figures(outcomes) for name, outcomes in everything.items()}}


def table(counted: Mapping[str, Mapping[str, Mapping[str, int]]]) -> str:
    """In Markdown."""
    lines = [f"| suite | policy | {' | '.join(COLUMNS.values())} |", f"|---|---|{'---|' * len(COLUMNS)}"]
    for suite, by_policy in counted.items():
        for name, row in by_policy.items():
            lines.append(f"| {suite} | {name} | {' | '.join(str(row[column]) for column in COLUMNS)} |")
    return "\n".join(lines)


async def measured(every: int) -> Measured:
    """Everything, of all suites."""
    try:
        from _agentdojo import suites
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error}: see --help for how to install AgentDojo") from error
    all_of_it = Measured()
    for suite in suites():
        await all_of_it.add(suite, every)
    return all_of_it


def main() -> None:
    """Print three tables; with ``--json`` also write their figures to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="every fourth task and attack")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = parser.parse_args()
    found = asyncio.run(measured(4 if chosen.quick else 1))
    report: dict[str, Any] = {"benchmark": "injection", "quick": chosen.quick, "agentdojo": version("agentdojo")}
    for key, title, outcomes in [
        ("attacked", "Attacks that change, send or run something", found.attacked),
        ("talked_to", "Attacks that only want something said in the answer", found.talked_to),
        ("undisturbed", "No attack", found.undisturbed),
    ]:
        report[key] = rows(outcomes)
        print(f"{title}\n\n{table(report[key])}\n")
        for limit, count in limits(outcomes).items():
            print(f"ended by the limit {limit!r}: {count} runs\n")
    report["left_out"] = found.left_out
    for why, count in found.left_out.items():
        print(f"left out, {why}: {count} pairs")
    if chosen.json:
        chosen.json.write_text(json.dumps(report, indent=1), "utf-8")


if __name__ == "__main__":
    main()
