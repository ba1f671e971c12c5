"""Loaded by pytest: a test fails if a script or a recording that it made was not consumed."""

from __future__ import annotations

import sys
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Look at the scripts after the test, unless it has failed on its own."""
    _scripts().clear()
    outcome = yield
    left = [script for script in _scripts() if script.remaining > 0]  # type: ignore[attr-defined]
    _scripts().clear()
    if left:
        pytest.fail(
            f"{len(left)} provider(s) with unconsumed steps: "
            + ", ".join(f"{script.name} has {script.remaining} left" for script in left)  # type: ignore[attr-defined]
        )
    return outcome


def _scripts() -> list[object]:
    # Not imported: a test suite that does not use agentkit pays nothing for this plugin.
    testing = sys.modules.get("agentkit.testing.scripted")
    scripts: list[object] = testing._unfinished if testing is not None else []
    return scripts
