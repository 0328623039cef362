"""Records as people read them, a line each, and as programs do, a JSON object each."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from rich.cells import cell_len, set_cell_size
from rich.text import Text

from stepstream.outputs import (
    DEAD_LETTER,
    CountValue,
    Event,
    MinuteValue,
    WalkValue,
    read_reason,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import tzinfo

    from stepstream.outputs import PublishedRecord

__all__ = ["RecordTable", "to_json"]

TYPES: dict[str, type[msgspec.Struct]] = {
    "step": Event,
    "minute": MinuteValue,
    "walk": WalkValue,
    "count": CountValue,
}
STYLES = {
    "step": "green",
    "minute": "cyan",
    "walk": "magenta",
    "count": "blue",
    DEAD_LETTER: "bold red",
}
COLUMNS = {
    "steps": ("step", "minute", "walk", "count"),
    "cadence": ("minute", "walk"),
    "lasted": ("step", "minute", "walk"),
}
"""Columns between the device and the rest of a line, and the kinds that have something there."""
WIDTHS = {"steps": 8, "cadence": 9, "lasted": 12}
TIME_WIDTH = 11
WIDEST_DEVICE = 36
EXCERPT_BYTES = 200
"""Of a value that is not understood; no more fits a line or two."""
NARROWEST_EXCERPT = 20
INDENT = "  "

_encode = msgspec.json.Encoder().encode


def to_json(record: PublishedRecord) -> bytes:
    """A record as a JSON object in one line, with all that there is of it.

    The value is an object; if it can't be read or is that of a dead letter, it is text, or
    ``value_base64`` if it is no UTF-8. A tombstone's value is null.
    """
    line: dict[str, Any] = {
        "what": record.kind.replace(" ", "-"),
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "time": None if record.time_ms is None else _rfc3339(record.time_ms),
        **_as_text("key", record.key),
    }
    reason = read_reason(record.headers) if record.kind == DEAD_LETTER else None
    if reason is not None:
        source = {"topic": reason.topic, "partition": reason.partition, "offset": reason.offset}
        line |= {"error": reason.code, "detail": reason.detail, "source": source}
    elif record.source:
        line["source"] = {"topic": record.source}
    fields = record.read()
    line |= _as_text("value", record.value) if fields is None else {"value": fields}
    return _encode(line)


def _as_text(name: str, content: bytes | None) -> dict[str, str | None]:
    try:
        return {name: None if content is None else content.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(content or b"").decode()}


def _rfc3339(time_ms: int) -> str | None:
    moment = _moment(time_ms / 1000, UTC)
    if moment is None:
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(time_s: float, zone: tzinfo | None) -> datetime | None:
    """A moment in a time zone, the machine's if None; None if no calendar has it."""
    try:
        return datetime.fromtimestamp(time_s, zone).astimezone(zone)
    except (OverflowError, ValueError, OSError):
        return None


class _Row(NamedTuple):
    """What a line says, in the order of the columns; below it, a line without columns."""

    time_s: float | None
    clock: str
    device: str
    steps: str = ""
    cadence: str = ""
    lasted: str = ""
    more: str = ""
    below: str = ""
    more_style: str = "dim"


class RecordTable:
    """Makes the lines of a table that never ends.

    Parameters
    ----------
    kinds
        Of the records that will come.
    devices
        Those that are asked for, if any: their column is wide enough from the start.
    width
        Of the terminal, in cells; None if there is none.
    zone
        Of all times; that of the machine if None.
    with_source
        Whether to say from which topic of readings records come.
    """

    def __init__(
        self,
        kinds: Sequence[str],
        devices: Collection[str] = (),
        width: int | None = None,
        zone: tzinfo | None = None,
        *,
        with_source: bool = False,
    ) -> None:
        self._kinds = kinds
        self._columns = [name for name, has in COLUMNS.items() if set(has) & set(kinds)]
        self._device_width = 12
        for device in devices:
            self._widen(_printable(device))
        self._width = width
        self._zone = zone
        self._with_source = with_source
        self._day = ""

    def _widen(self, device: str) -> None:
        self._device_width = min(WIDEST_DEVICE, max(self._device_width, cell_len(device)))

    def head(self) -> Text:
        """The names of the columns."""
        row = _Row(None, "time", "device", *(n if n in self._columns else "" for n in COLUMNS))
        return self._line("what", row, dict.fromkeys(("what", "device", "steps"), "dim"))

    def lines(self, record: PublishedRecord) -> list[Text]:
        """The lines for a record: one or two, and one before them if another day begins."""
        row = self._row(record)
        self._widen(row.device)
        lines = []
        moment = None if row.time_s is None else _moment(row.time_s, self._zone)
        if moment is not None:
            day = f"{moment:%Y-%m-%d} UTC{moment:%z}"
            if day != self._day:
                self._day = day
                lines.append(Text(day, "dim italic"))
        styles = {"what": STYLES[record.kind], "device": "bold", "steps": "bold"}
        lines.append(self._line(record.kind, row, styles))
        if row.below:
            lines.append(Text(f"{INDENT}{row.below}", "dim"))
        return lines

    def _line(self, what: str, row: _Row, styles: dict[str, str]) -> Text:
        line = Text()
        line.append(row.clock.ljust(TIME_WIDTH), "dim")
        line.append("  ")
        if len(self._kinds) > 1:
            widest = max(map(len, (*self._kinds, "what")))
            line.append(what.ljust(widest), styles["what"])
            line.append("  ")
        line.append(set_cell_size(row.device, self._device_width), styles["device"])
        cells: dict[str, str] = {name: getattr(row, name) for name in self._columns}
        # Text alone needs the room of the columns.
        for name, cell in cells.items() if any(cells.values()) else ():
            line.append(cell.rjust(WIDTHS[name]), styles["steps"] if name == "steps" else "dim")
        if row.more:
            line.append("  ")
            line.append(row.more, row.more_style)
        line.rstrip()
        return line

    def _row(self, record: PublishedRecord) -> _Row:
        fields = record.read()
        device = _printable(record.device_of(fields))
        if record.kind == DEAD_LETTER:
            return self._dead_letter(record, device)
        if record.value is None:
            time_s, clock = self._record_time(record)
            return _Row(time_s, clock, device, more="forgotten")
        try:
            value = msgspec.convert(fields, TYPES[record.kind])
        except msgspec.ValidationError:
            return self._unknown(record, device)
        row = self._known(value, device)
        if self._with_source and record.source:
            row = row._replace(more=f"{row.more}  {_printable(record.source)}".strip())
        return row

    def _known(self, value: msgspec.Struct, device: str) -> _Row:
        if isinstance(value, Event):
            clock = self._clock(value.ended_at, 2)
            sure = f"start {value.start_probability:.2f}, end {value.end_probability:.2f}"
            lasted = f"{value.ended_at - value.started_at:.2f} s"
            return _Row(value.ended_at, clock, device, f"#{value.step_count:,}", "", lasted, sure)
        if isinstance(value, MinuteValue):
            try:
                begin_s = datetime.fromisoformat(value.minute).timestamp()
            except (ValueError, OverflowError):
                return _Row(None, _printable(value.minute), device, f"{value.steps:,}")
            clock = self._clock(begin_s, 0)[:5]
            lasted = f"{value.walking_s:.1f} s"
            return _Row(begin_s, clock, device, f"{value.steps:,}", _cadence(value), lasted)
        if isinstance(value, WalkValue):
            clock = self._clock(value.started_at, 0)
            lasted = _duration(value.ended_at - value.started_at)
            until = f"until {self._clock(value.ended_at, 0)}"
            steps = f"{value.steps:,}"
            return _Row(value.started_at, clock, device, steps, _cadence(value), lasted, until)
        if isinstance(value, CountValue):
            clock = self._clock(value.last_step_at, 0)
            return _Row(value.last_step_at, clock, device, f"{value.step_count:,}", more="in all")
        raise TypeError(f"no line is known for {type(value)}")

    def _dead_letter(self, record: PublishedRecord, device: str) -> _Row:
        reason = read_reason(record.headers)
        if reason is None:
            return self._unknown(record, device)
        time_s, clock = self._record_time(record)
        place = f"{reason.topic}-{reason.partition} offset {reason.offset}"
        return _Row(
            time_s,
            clock,
            device or "(no key)",
            more=_printable(f"{reason.code}: {reason.detail}"),
            below=self._excerpt(_printable(place), record.value),
            more_style="red",
        )

    def _unknown(self, record: PublishedRecord, device: str) -> _Row:
        time_s, clock = self._record_time(record)
        place = f"{record.topic}-{record.partition} offset {record.offset}"
        below = self._excerpt(_printable(place), record.value)
        return _Row(time_s, clock, device, more="can't be read", below=below, more_style="yellow")

    def _excerpt(self, place: str, value: bytes | None) -> str:
        """Where a value is, its length, and the first of it, as much as fits a line."""
        if value is None:
            return f"{place}, no value"
        begin = f"{place}, {len(value):,} bytes: "
        shown = _printable(value[:EXCERPT_BYTES].decode("utf-8", "backslashreplace"))
        room = len(shown)
        if self._width is not None:
            room = max(NARROWEST_EXCERPT, self._width - len(INDENT) - cell_len(begin))
        is_whole = len(value) <= EXCERPT_BYTES and cell_len(shown) <= room
        return begin + (shown if is_whole else f"{set_cell_size(shown, room - 1).rstrip()}…")

    def _record_time(self, record: PublishedRecord) -> tuple[float | None, str]:
        if record.time_ms is None:
            return None, ""
        return record.time_ms / 1000, self._clock(record.time_ms / 1000, 0)

    def _clock(self, time_s: float, digits: int) -> str:
        moment = _moment(time_s, self._zone)
        if moment is None:
            return f"{time_s:.4g}"
        fraction = f"{moment.microsecond / 1e6:.6f}"[1 : 2 + digits] if digits else ""
        return f"{moment:%H:%M:%S}{fraction}"


def _cadence(value: MinuteValue | WalkValue) -> str:
    return f"{value.cadence:.0f}/min"


def _duration(seconds: float) -> str:
    if not 60 <= seconds < 1e9:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60:,} h {minutes % 60:02} min"


def _printable(text: str) -> str:
    """Text that can't do anything to a terminal."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )
