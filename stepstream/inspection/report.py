"""How messages are understood, for people: a screen for each topic."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from stepstream.detection.sanity import Doubt
from stepstream.inputs import ACCELEROMETER_BIT
from stepstream.inspection.understanding import BOTH, Understanding, typical

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepstream.inspection.excerpts import Excerpt, FoundMessage
    from stepstream.settings import InputSettings

__all__ = ["describe"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
IDS_SHOWN = 3
CODES_SHOWN = 5
VALUE_SHOWN = 100
LOW_RATE_HZ = 20.0
"""The lowest rate that the model is made for."""
LONG_S = 86_400.0
DOUBTS = {
    Doubt.ACCEL_IN_G: "gravity alone would be 9.81: are these g?",
    Doubt.ACCEL_TOO_LARGE: "gravity alone would be 9.81: is the unit another one?",
    Doubt.NO_GRAVITY: "less than gravity, 9.81: the devices must send it as measured, with gravity",
    Doubt.GYRO_IN_DEGREES: "nobody turns so fast: are these degrees?",
}


def describe(excerpt: Excerpt, settings: InputSettings, found: Understanding) -> list[str]:
    """Lines that say how messages are understood, and what is wrong with them.

    Parameters
    ----------
    excerpt
        The messages.
    settings
        How they were read.
    found
        What they are with these settings.
    """
    rows = [
        ("messages", _messages(settings, found)),
        ("device ids", _devices(excerpt, settings, found)),
    ]
    if found.readings:
        rows += [("times", text) for text in _times(settings, found)]
        rows += [("rate", _rate(found)), *_axes(found)]
    rows += [("invalid", text) for text in _invalid(excerpt, found)]
    lines, last = [], ""
    for name, text in rows:
        lines.append(f"  {'' if name == last else name:14}{text}")
        last = name
    return lines


def _messages(settings: InputSettings, found: Understanding) -> str:
    text = f"{found.total:,}, read as {settings.format}"
    if found.readings:
        each = np.unique(found.message, return_counts=True)[1]
        low, high = int(each.min()), int(each.max())
        number = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        text += f", {number} {'reading' if high == 1 else 'readings'} in each"
    return text


def _devices(excerpt: Excerpt, settings: InputSettings, found: Understanding) -> str:
    source = settings.device_id
    place = {"key": f"in the key, {settings.key}"}.get(source, f"at {source}")
    if source == "key" and not excerpt.has_keys:
        place = "the keys are not in the file"
    if source.startswith("header:"):
        place = f"in the {source.replace(':', ' ')}"
    ids = list(found.device_ids)
    shown = ", ".join(ids[:IDS_SHOWN]) + (", ..." if len(ids) > IDS_SHOWN else "")
    text = f"{len(ids):,} ({place}){': ' if ids else ''}{shown}"
    if found.split_devices:
        text += (
            f"; {len(found.split_devices):,} of them in more than one partition, such as "
            f"{found.split_devices[0]}: all messages of a device must be in one"
        )
    elif found.is_scattered:
        text += "; hardly any has two readings: are these ids of messages?"
    return text


def _times(settings: InputSettings, found: Understanding) -> Iterator[str]:
    first, last = int(found.time_us.min()), int(found.time_us.max())
    unit = "time of the record" if settings.time_unit == "record" else settings.time_unit
    yield f"{_date(first)} to {_date(last)} UTC (unit: {unit})"
    if found.is_before_2001:
        yield "before 2001: is the unit another one, or do they count from a device's start?"
    elif len(found.behind_s):
        behind = typical(found.behind_s)
        side = "before" if behind >= 0 else "after"
        yield f"{_duration(abs(behind))} {side} the records (median)"
    if found.repeats:
        yield (
            f"{found.repeats:,} of {found.readings:,} readings are not after the one before them: "
            "they would be dropped"
        )


def _rate(found: Understanding) -> str:
    texts = []
    for bits, timing in sorted(found.timings.items()):
        if not len(timing.rates_hz):
            continue
        low, middle, high = np.quantile(timing.rates_hz, (0, 0.5, 1)).tolist()
        text = f"{middle:.1f} Hz"
        if high - low > middle / 100:
            text += f" ({low:.1f} to {high:.1f})"
        if middle < LOW_RATE_HZ:
            text += f"; below {LOW_RATE_HZ:.0f} Hz, steps are missed"
        if bits != BOTH:
            text = f"{'accelerometer' if bits == ACCELEROMETER_BIT else 'gyroscope'} {text}"
        texts.append(text)
    return ", ".join(texts) or "not known: no device has two readings"


def _axes(found: Understanding) -> Iterator[tuple[str, str]]:
    verdict = found.verdict
    said = {doubt: DOUBTS[doubt] for doubt in verdict.doubts}
    accel = gyro = "too few readings to judge its unit"
    if verdict.pieces:
        wrong = [text for doubt, text in said.items() if doubt is not Doubt.GYRO_IN_DEGREES]
        part = f" in {verdict.share:.0%} of the readings" if verdict.share < 1 else ""
        accel = f"{verdict.accel:.2f} m/s^2 typical length{part}; "
        accel += wrong[0] if wrong else "gravity is included"
        gyro = f"a tenth of the time over {verdict.gyro:.2f} rad/s"
        if Doubt.GYRO_IN_DEGREES in said:
            gyro += f"; {said[Doubt.GYRO_IN_DEGREES]}"
    yield "acceleration", accel
    bits = set(found.timings)
    if not found.has_gyroscope:
        gyro = "none"
    elif bits != {BOTH}:
        gyro += "; apart from the acceleration"
    yield "gyroscope", gyro


def _invalid(excerpt: Excerpt, found: Understanding) -> Iterator[str]:
    if not found.invalid:
        return
    by_code: defaultdict[str, list[int]] = defaultdict(list)
    for row, error in found.invalid.items():
        by_code[error.code].append(row)
    yield f"{len(found.invalid):,} of {found.total:,} messages"
    for code, rows in Counter({c: len(r) for c, r in by_code.items()}).most_common(CODES_SHOWN):
        first = by_code[code][0]
        yield f"{rows:,} {code}: {found.invalid[first].detail}"
        yield f"  {excerpt.messages[first].place}: {_value(excerpt.messages[first])}"


def _value(message: FoundMessage) -> str:
    if message.value is None:
        return "no value"
    try:
        text = message.value.decode()
        text = text if text.isprintable() else repr(message.value)
    except UnicodeDecodeError:
        text = repr(message.value)
    return text if len(text) <= VALUE_SHOWN else f"{text[:VALUE_SHOWN]} ..."


def _date(time_us: int) -> str:
    return f"{EPOCH + timedelta(microseconds=time_us):%Y-%m-%d %H:%M:%S}"


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < LONG_S else f"{seconds / LONG_S:.1f} days"
