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
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from _injection import POLICIES, Outcome, Suite, outcome

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

Outcomes = defaultdict[str, list[Outcome]]
"""By the name of a policy."""


def figures(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """What `COLUMNS` says."""
    reasons = [outcome.stop_reason for outcome in outcomes]
    answers = [outcome.answers for outcome in outcomes]
    return {
        "runs": len(outcomes),
        "attacks": sum(outcome.stranger_done for outcome in outcomes),
        "tasks": sum(outcome.user_done for outcome in outcomes),
        "paused": reasons.count("paused"),
        "cut_short": sum(reason not in ("answer", "paused") for reason in reasons),
        "asked": sum(bool(said) for said in answers),
        "allowed": sum(said.count(True) for said in answers),
        "denied": sum(said.count(False) for said in answers),
    }


class Measured:
    """The outcomes of all suites, by group: a suite's name, with what sets it apart."""

    def __init__(self) -> None:
        self.attacked: defaultdict[str, Outcomes] = defaultdict(lambda: defaultdict(list))
        self.undisturbed: defaultdict[str, Outcomes] = defaultdict(lambda: defaultdict(list))
        self.left_out = {"no calls are written down for the attack": 0, "the injection is never read": 0}

    async def add(self, suite: Suite[Any], every: int) -> None:
        """Measure a suite: each task of the user by itself, and under each attack. Of both, every so many."""
        users = suite.users[::every]
        for user in users:
            for name, policy in POLICIES.items():
                self.undisturbed[suite.name][name].append(await outcome(suite, user, None, policy))
        for stranger in suite.strangers[::every]:
            only_reads = suite.only_reads(stranger)
            if only_reads and not stranger.answer:
                self.left_out["no calls are written down for the attack"] += len(users)
                continue
            group = self.attacked[f"{suite.name}, only the answer" if only_reads else suite.name]
            for user in users:
                outcomes = {name: await outcome(suite, user, stranger, policy) for name, policy in POLICIES.items()}
                if not outcomes["no policy"].is_read:
                    self.left_out["the injection is never read"] += 1
                    continue
                for name, came in outcomes.items():
                    group[name].append(came)


def rows(groups: Mapping[str, Outcomes]) -> dict[str, dict[str, dict[str, int]]]:
    """Group → policy → figures; and the sum of the groups that are a whole suite."""
    counted = {group: {name: figures(came) for name, came in by.items()} for group, by in groups.items()}
    whole = [by for group, by in groups.items() if "," not in group]
    counted["all"] = {name: figures([came for by in whole for came in by[name]]) for name in POLICIES}
    return counted


def table(title: str, counted: Mapping[str, Mapping[str, Mapping[str, int]]]) -> str:
    """In Markdown."""
    lines = [f"| {title} | policy | {' | '.join(COLUMNS.values())} |", f"|---|---|{'---|' * len(COLUMNS)}"]
    for group, by_policy in counted.items():
        for name, row in by_policy.items():
            lines.append(f"| {group} | {name} | {' | '.join(str(row[column]) for column in COLUMNS)} |")
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
    """Print two tables; with ``--json`` also write their figures to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="every fourth task and attack")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = parser.parse_args()
    found = asyncio.run(measured(4 if chosen.quick else 1))
    attacked, undisturbed = rows(found.attacked), rows(found.undisturbed)
    print(f"AgentDojo {version('agentdojo')}\n")
    print(table("with an injection", attacked), end="\n\n")
    print(table("without", undisturbed), end="\n\n")
    for why, count in found.left_out.items():
        print(f"left out, {why}: {count} pairs")
    if chosen.json:
        report = {"benchmark": "injection", "quick": chosen.quick, "agentdojo": version("agentdojo")}
        report |= {"attacked": attacked, "undisturbed": undisturbed, "left_out": found.left_out}
        chosen.json.write_text(json.dumps(report, indent=1), "utf-8")


if __name__ == "__main__":
    main()
