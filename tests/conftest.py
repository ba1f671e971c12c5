"""What all tests share."""

from __future__ import annotations

import asyncio
import inspect
import signal

import pytest
from hypothesis import settings

settings.register_profile("agentkit", deadline=None, max_examples=50)
settings.load_profile("agentkit")


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So does a shell without job control start what runs in its background, and all that this starts would be deaf too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is a coroutine runs in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
