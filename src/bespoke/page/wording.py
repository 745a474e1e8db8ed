"""Numbers turned into the words of the page: no more digits than were measured, and a real minus sign."""

import math
from datetime import datetime

from bespoke.records import Score

MINUS = "\N{MINUS SIGN}"


def number(value: float, decimals: int | None = None) -> str:
    """The number in words: with `decimals` places, or else with three significant digits."""
    if not math.isfinite(value):
        return "not measured"
    return (f"{value:.3g}" if decimals is None else f"{value:z.{decimals}f}").replace("-", MINUS)


def interval(score: Score, *others: Score) -> tuple[str, str]:
    """The value and its 95 % interval in words, with as many decimals as the scores shown together need."""
    decimals = max(_decimals(each) for each in (score, *others))
    if not math.isfinite(score.value):
        return number(score.value), ""
    if not (math.isfinite(score.low) and math.isfinite(score.high)):
        return number(score.value, decimals), ""
    between = " to " if score.low < 0 else "\N{EN DASH}"
    return number(score.value, decimals), number(score.low, decimals) + between + number(score.high, decimals)


def duration(seconds: float) -> str:
    """The time in the two largest units that matter: "0.4 s", "6 min 12 s", "1 h 03 min"."""
    if round(seconds, 1) < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def file_size(count: int) -> str:
    """The size in decimal units, as file managers and hubs give it."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            return f"{count / limit:.1f} {unit}"
    return f"{count} bytes"


def moment(now: datetime) -> str:
    """The time of day and the day, with the time zone where it is known."""
    return f"{now:%H:%M:%S} {now.tzname() or ''}".rstrip() + f", {now.day} {now:%B %Y}"


def date(moment: datetime) -> str:
    """The day and the minute, with the time zone where it is known."""
    return f"{moment.day} {moment:%B %Y, %H:%M} {moment.tzname() or ''}".rstrip()


def _decimals(score: Score) -> int:
    """How many decimals show three digits of the value and the first of the interval's width, at most six."""
    width = score.high - score.low
    for_width = math.floor(-math.log10(width)) + 1 if math.isfinite(width) and width > 0 else 0
    large = max((abs(v) for v in (score.value, score.low, score.high) if math.isfinite(v)), default=0.0)
    for_value = 2 - math.floor(math.log10(large)) if large >= 1 else 2
    return min(6, max(0, for_width, for_value))
