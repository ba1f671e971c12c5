"""The README's and the docs' Python, run; and the examples."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
EXPECTED = ["The result is 7006652.\n", "calls calculator {'expression': '12.5 * 8'}\ngot 100\nThe result is 100.", ""]


def run(*arguments: str | Path) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(("snippet", "expected"), list(zip(SNIPPETS, EXPECTED, strict=True)))
def test_the_readme_runs_as_printed(tmp_path: Path, snippet: str, expected: str) -> None:
    (tmp_path / "test_snippet.py").write_text(snippet)
    assert run(tmp_path / "test_snippet.py") == expected


def test_the_readmes_test_passes_under_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_snippet.py").write_text(SNIPPETS[2])
    assert "1 passed" in run("-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path)


def test_every_link_in_the_readme_and_docs_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        ("quickstart.py", "result: 7006652\nanswer: The result is 7006652.\n"),
        ("custom_tool.py", "-> in_stock({'item': 'hammer'})\n<- 42\n"),
        ("structured_output.py", "so far: {'customer': "),
        ("before_chat.py", "-> population({'country': 'Iceland'})\n<- 399000\n"),
        ("plan_and_execute.py", "3 runs on record\n"),
        ("local_model.py", "What is 365 * 24? The result is 8760."),
    ],
)
def test_the_examples_run(example: str, expected: str) -> None:
    assert expected in run(ROOT / "examples" / example)
