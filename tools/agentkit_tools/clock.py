"""A clock: the current date and time, anywhere."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from difflib import get_close_matches
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from agentkit import ToolError, tool

__all__ = ["clock"]


@tool(effect="read")
def clock(timezone: str = "UTC") -> str:
    """Tell the current date, weekday and time.

    Args:
        timezone: an IANA time zone, for example "Europe/Berlin" or "America/New_York".
    """
    name = _zone_name(timezone)
    zone: tzinfo = UTC if name == "UTC" else ZoneInfo(name)
    now = datetime.now(zone)
    return f"{now:%A}, {now.isoformat(timespec='seconds')} ({name})"


def _zone_name(given: str) -> str:
    """The zone's name as the database spells it. Names come from its list only, so none is ever used as a path."""
    key = given.strip().replace(" ", "_").lower()
    zones = _zones()
    if key not in zones:
        raise ToolError(f"{_excerpt(given)} is no IANA time zone.{_hint(key)}")
    return zones[key]


@cache
def _zones() -> dict[str, str]:
    return {"utc": "UTC"} | {name.lower(): name for name in sorted(available_timezones())}


def _hint(key: str) -> str:
    """A city's own name is what people and models guess first, so it is compared with the last part as well."""
    zones = _zones()
    if len(zones) == 1:
        return " This machine has no time zone database, so only UTC works: pip install tzdata"
    cities = {name.rpartition("/")[2]: name for name in zones}
    close = get_close_matches(key.rpartition("/")[2], cities, n=3, cutoff=0.75)
    names = [zones[cities[city]] for city in close]
    return f" Did you mean {' or '.join(names)}?" if names else ' Write it like "Europe/Berlin", or "UTC".'


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
