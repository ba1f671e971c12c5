"""The clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from agentkit import ToolError
from agentkit_tools.clock import clock


def read(text: str) -> datetime:
    match = re.fullmatch(r"(\w+), (\S+) \((.+)\)", text)
    assert match
    moment = datetime.fromisoformat(match[2])
    assert f"{moment:%A}" == match[1]
    return moment


def test_it_tells_the_time_in_utc() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    moment = read(clock())
    assert before <= moment <= datetime.now(UTC)
    assert moment.utcoffset() == timedelta(0)


def test_it_tells_the_time_in_a_zone_however_it_is_spelled() -> None:
    text = clock("europe/berlin")
    assert text.endswith("(Europe/Berlin)")
    assert read(text).utcoffset() == datetime.now(ZoneInfo("Europe/Berlin")).utcoffset()
    assert clock(" America/new york ").endswith("(America/New_York)")


@pytest.mark.parametrize(
    ("zone", "message"),
    [
        ("Berlin", "Did you mean Europe/Berlin?"),
        ("Europe/Berln", "Did you mean Europe/Berlin?"),
        ("PST", 'Write it like "Europe/Berlin"'),
        ("", 'Write it like "Europe/Berlin"'),
        ("../../etc/passwd", "no IANA time zone"),
        ("Europe", "no IANA time zone"),
        ("/etc/localtime", "no IANA time zone"),
        ("x" * 10_000, "no IANA time zone"),
    ],
)
def test_an_unknown_zone_is_named_with_the_nearest(zone: str, message: str) -> None:
    with pytest.raises(ToolError, match=re.escape(message)) as raised:
        clock(zone)
    assert len(str(raised.value)) < 300
