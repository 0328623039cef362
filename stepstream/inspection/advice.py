"""What the settings should probably be."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from stepstream.detection.sanity import FAST_SHARE, G_SHARE, NEAR_G, TOO_FAST
from stepstream.inputs import is_plain
from stepstream.inputs.columns import FIELDS
from stepstream.inspection.documents import read_documents
from stepstream.inspection.encodings import Encoding, encoding_of, schema_id
from stepstream.inspection.names import is_id
from stepstream.inspection.shapes import epoch_unit, find_packed_text, find_shape
from stepstream.inspection.understanding import Understanding, typical, understand
from stepstream.settings import ENV_PREFIX, InputSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from stepstream.inspection.excerpts import Excerpt
    from stepstream.settings import RegistrySettings

__all__ = ["Advice", "Inspector"]

MOSTLY = 0.9
"""Settings fit if they read this part of the messages."""
NEVER_US = 1 << 62
TINY = 1e-9
"""What a 1 is, so that no number is out of range while the unit isn't known."""
GRAVITY = 9.80665
ACCELERATIONS = {"m/s2": 1.0, "g": GRAVITY, "mg": GRAVITY / 1000}
SMALLEST, LARGEST = 0.6, 2.5
"""Typical lengths of an acceleration with gravity, in g."""
DEGREE = math.pi / 180
COUNT = "g/"
USUAL_GYRO_COUNT = "deg/s/131"
"""Of sensors with a range of 250 degrees a second."""
MAX_DEGREES = 2_000.0
"""No sensor measures more degrees a second."""
ORDER = ("start", "period", "rate", *FIELDS)
TIMES = {"timestamp", "start"}
MANY = 20
MAX_KNOWN = 4
NEUTRAL = "stepstream-check"


@dataclass
class Advice:
    """What to change.

    Attributes
    ----------
    settings
        The settings of `input`, and what messages are with them; None if no better ones are known.
    remarks
        What settings don't change, or what has to be known first.
    variables
        Environment variables that are needed beside those of `input`.
    """

    settings: InputSettings | None = None
    understood: Understanding | None = None
    remarks: list[str] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)

    def lines(
        self,
        present: InputSettings,
        topic: str | None = None,
        inputs: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> list[str]:
        """What to set, as in a ``.env`` file.

        Parameters
        ----------
        present
            The settings to change.
        topic
            If given, the lines change the settings of this topic only.
        inputs
            What is different in some topics so far.
        """
        if self.settings is None:
            return self.variables
        before, after = (
            one.model_dump(mode="json", by_alias=True) for one in (present, self.settings)
        )
        unset = InputSettings().model_dump(mode="json", by_alias=True)
        changed = {name: value for name, value in after.items() if value != before[name]}
        if topic is not None and changed:
            different = {**(inputs or {})}
            different[topic] = {**different.get(topic, {}), **changed}
            return [f"{ENV_PREFIX}INPUTS={_quoted(different)}", *self.variables]
        found = []
        for name, value in changed.items():
            variable = f"{ENV_PREFIX}INPUT__{name.upper()}"
            is_unset = value == unset[name] and not isinstance(value, str)
            found.append(f"# without {variable}" if is_unset else f"{variable}={_quoted(value)}")
        return [*found, *self.variables]


def _quoted(value: Any) -> str:
    if isinstance(value, dict):
        return f"'{json.dumps(value)}'"
    return str(value).lower() if isinstance(value, bool) else str(value)


class Inspector:
    """Finds settings that read messages.

    Parameters
    ----------
    settings, registry
        The present ones.
    excerpt
        The messages.
    now_us, ahead_us
        See `understand`.
    """

    def __init__(
        self,
        settings: InputSettings,
        registry: RegistrySettings,
        excerpt: Excerpt,
        now_us: int,
        ahead_us: int,
    ) -> None:
        self._present = settings
        self._registry = registry
        self._excerpt = excerpt
        self._now_us, self._ahead_us = now_us, ahead_us
        self._known: dict[str, Understanding] = {}
        self._remarks: list[str] = []

    def understand(self, settings: InputSettings) -> Understanding:
        """See `understand`; what was asked for just before is known."""
        text = settings.model_dump_json(by_alias=True)
        if text not in self._known:
            self._known[text] = understand(
                settings, self._registry, self._excerpt, self._now_us, self._ahead_us
            )
            if len(self._known) > MAX_KNOWN:
                del self._known[next(iter(self._known))]
        return self._known[text]

    def advise(self, understood: Understanding) -> Advice:
        """Look for better settings.

        Parameters
        ----------
        understood
            What messages are with the present ones.

        Raises
        ------
        RegistryAwayError
            The schema registry can't be asked.
        """
        advice = Advice()
        values = [message.value for message in self._excerpt.messages]
        encoding = encoding_of(values)
        if encoding.format is None and self._present.schema_ is None:
            advice.remarks.append(f"the messages are {encoding.value}; that can't be read")
            return advice
        if self._needs_schema(encoding):
            self._ask_for_schema(encoding, advice)
            return advice
        best = understood.faults
        failed = None
        for candidate in self._candidates(encoding, values, advice):
            found = self.understand(candidate)
            failed = failed or next(iter(found.invalid.values()), None)
            if found.faults < best:
                best, advice.settings, advice.understood = found.faults, candidate, found
        advice.remarks += dict.fromkeys(self._remarks)
        if not (advice.settings or advice.remarks or understood.readings) and failed is not None:
            advice.remarks.append(
                f"with the likeliest paths, messages are invalid, too: {failed.code}: "
                f"{failed.detail}"
            )
        if advice.settings is not None and advice.settings.accel_unit.startswith(COUNT):
            advice.remarks.append(
                "the numbers look like counts of the sensor: its data sheet says what a 1 is, for "
                "both sensors; what follows is a guess"
            )
        return advice

    def advise_finer_ids(self, understood: Understanding) -> Advice | None:
        """Better settings if messages that are read well name more devices than their keys."""
        if self._present.device_id != "key" or not self._excerpt.has_keys:
            return None
        path = self._id_in_values()
        if path is None:
            return None
        changed = self._present.with_changes({"device_id": path, "key": "text"})
        found = self.understand(changed)
        if not found.is_right or len(found.device_ids) <= len(understood.device_ids):
            return None
        remark = f"{path} has {len(found.device_ids):,} values: is it the device, and not the key?"
        return Advice(changed, found, [remark])

    def _id_in_values(self) -> str | None:
        """Path of what looks like a device's id."""
        values = [message.value for message in self._excerpt.messages]
        encoding = encoding_of(values)
        _, documents = read_documents(encoding, values, self._present, self._registry)
        shape = find_shape(documents) if documents else None
        return shape.settings.get("device_id") if shape else None

    def _needs_schema(self, encoding: Encoding) -> bool:
        is_framed = encoding in {Encoding.AVRO, Encoding.FRAMED_PROTOBUF}
        if encoding is Encoding.PROTOBUF or is_framed:
            has_schema = self._present.schema_ is not None and not is_framed
            return not (has_schema or (is_framed and self._registry.url))
        return False

    def _ask_for_schema(self, encoding: Encoding, advice: Advice) -> None:
        advice.variables.append(f"{ENV_PREFIX}INPUT__FORMAT={encoding.format}")
        if encoding is Encoding.PROTOBUF:
            advice.remarks.append(
                "the messages look like Protobuf: only a compiled schema says what is in them"
            )
            advice.variables += [
                f"{ENV_PREFIX}INPUT__SCHEMA=<file written by protoc --descriptor_set_out>",
                f"{ENV_PREFIX}INPUT__MESSAGE_TYPE=<package.Message>",
            ]
            return
        first = next(m.value for m in self._excerpt.messages if m.value and m.value[0] == 0)
        advice.remarks.append(
            f"the messages are {encoding.value} ({schema_id(first)}), as serializers for a schema "
            "registry write them"
        )
        advice.variables.append(f"{ENV_PREFIX}REGISTRY__URL=<address of the schema registry>")

    def _candidates(
        self, encoding: Encoding, values: list[bytes | None], advice: Advice
    ) -> Iterator[InputSettings]:
        """Settings to try, those first that change less."""
        present = self._present
        fits = encoding.format == present.format or present.schema_ is not None
        if fits and self._reads(present):
            _, documents = read_documents(encoding, values, present, self._registry)
            yield from self._refined(_for_lists(present, documents), self._id_in_values())
            return
        kind, documents = read_documents(encoding, values, present, self._registry)
        shape = find_shape(documents) if documents else None
        packed = find_packed_text(documents[0]) if shape is None and documents else None
        if packed is not None:
            advice.remarks.append(
                f"{packed} is text with JSON in it, which can't be read: the sender, or the bridge "
                "that writes the topic, has to write the JSON itself"
            )
            return
        if shape is None:
            advice.remarks.append(
                f"the messages are {encoding.value}, but nothing in them has the name of an "
                "acceleration: name the paths in STEPSTREAM_INPUT__FIELDS"
            )
            return
        advice.remarks += shape.lacks
        fields = sorted(shape.fields.items(), key=lambda field: ORDER.index(field[0]))
        given = {name: str(path) for name, path in fields if str(path) != name}
        settings = {**shape.settings, "format": kind, "fields": given}
        in_value = settings.pop("device_id", None)
        if not shape.fields.keys() & {"timestamp", "period", "rate"}:
            settings["rate"] = present.rate
        for name in ("schema", "message_type"):
            kept = present.model_dump(by_alias=True)[name]
            if kept is not None and kind == present.format:
                settings[name] = kept
        try:
            made = InputSettings.model_validate(settings)
        except ValidationError:
            return
        yield from self._refined(_for_lists(made, documents), in_value)

    def _neutral(self, settings: InputSettings, *, any_time: bool = True) -> Understanding:
        """What messages are if identity and units, also that of times, don't matter."""
        changes = {
            "device_id": f"header:{NEUTRAL}",
            "key": "text",
            "accel_unit": f"{TINY} m/s2",
            "gyro_unit": f"{TINY} rad/s",
        }
        if any_time and _has_unit(settings):
            # With the smallest unit, no time is out of range.
            changes["time_unit"] = "ns"
        changed = settings.with_changes(changes)
        excerpt = self._excerpt.with_header(NEUTRAL)
        return understand(changed, self._registry, excerpt, self._now_us, NEVER_US)

    def _reads(self, settings: InputSettings) -> bool:
        """Whether the paths lead to numbers."""
        found = self._neutral(settings)
        return found.total - len(found.invalid) >= MOSTLY * found.total and found.readings > 0

    def _refined(self, settings: InputSettings, in_value: str | None) -> Iterator[InputSettings]:
        """The same paths with other times, ids and units."""
        settings = settings.with_changes(self._time(settings))
        for identity in self._identities(settings, in_value):
            changed = settings.with_changes(identity)
            yield changed
            yield changed.with_changes(self._units(changed))

    def _time(self, settings: InputSettings) -> dict[str, Any]:
        if not _has_unit(settings):
            return {}
        found = self._neutral(settings)
        if not found.readings:
            return {}
        other = self._neutral(settings.with_changes({"time_unit": "us"}), any_time=False)
        if np.array_equal(other.time_us, found.time_us):
            return {}  # without times of their own, they have those of their records
        unit = epoch_unit(typical(found.time_us.astype(np.float64)) * 1000)
        if unit is not None:
            return {"time_unit": unit}
        # They count from a device's start.
        paths = {name: path for name, path in settings.fields.items() if name not in TIMES}
        return {"time_unit": "record", "fields": paths}

    def _identities(self, settings: InputSettings, in_value: str | None) -> list[dict[str, Any]]:
        """Where the ids may be; the likeliest place first."""
        messages = self._excerpt.messages
        if settings.device_id != "key":
            return [{}]
        places: list[dict[str, Any]] = []
        if in_value is not None:
            places.append({"device_id": in_value, "key": "text"})
        if not self._excerpt.has_keys:
            return places or [{}]
        keys = [message.key for message in messages if message.key is not None]
        if len(keys) < MOSTLY * len(messages):
            names = Counter(name for one in messages for name, _ in one.headers if is_id((name,)))
            places += [
                {"device_id": f"header:{name}", "key": "text"} for name, _ in names.most_common(1)
            ]
            if not places:
                self._remarks.append("nothing names the device: no key, no header, no field")
            return places or [{}]
        by_key = {"key": Counter(map(_key_kind, keys)).most_common(1)[0][0]}
        if not places:
            return [by_key]
        inside = len(self.understand(settings.with_changes(places[0])).device_ids)
        # A gateway's name as the key of many devices, or a number of the message.
        is_coarse = len(set(keys)) < inside <= max(MANY, len(messages) / 2)
        is_fine = len(set(keys)) > max(MANY, inside, len(messages) / 2)
        return [*places, by_key] if is_coarse or is_fine else [by_key, *places]

    def _units(self, settings: InputSettings) -> dict[str, Any]:
        """Units by the size of what was measured; none where that says nothing."""
        present = self.understand(settings)
        if present.readings and not present.invalid and not present.verdict.doubts:
            return {}
        pieces = self._neutral(settings, any_time=False).pieces / TINY
        if not len(pieces):
            return {}
        turning = float(np.quantile(pieces[:, 2], FAST_SHARE))
        found = {}
        unit = _accel_unit(pieces[:, 0])
        if unit is not None:
            found["accel_unit"] = unit
        if turning > MAX_DEGREES:
            found["gyro_unit"] = USUAL_GYRO_COUNT if unit and unit.startswith(COUNT) else "mdps"
        elif turning > TOO_FAST:
            found["gyro_unit"] = "deg/s"
        return found


def _for_lists(settings: InputSettings, documents: Sequence[Any]) -> InputSettings:
    """Settings that read lists of readings, too: the plain form, without any path, has none."""
    if is_plain(settings) and any(isinstance(one, list) for one in documents):
        return settings.with_changes({"fields": {"timestamp": "timestamp"}})
    return settings


def _has_unit(settings: InputSettings) -> bool:
    """Whether its times are numbers in a unit that a setting names."""
    return settings.format != "senml" and settings.time_unit not in {"iso8601", "record"}


def _accel_unit(lengths: NDArray[np.float64]) -> str | None:
    length = typical(lengths)
    for unit, factor in ACCELERATIONS.items():
        if not SMALLEST * GRAVITY <= length * factor <= LARGEST * GRAVITY:
            continue
        in_g = lengths * factor / GRAVITY
        # Without gravity, people's accelerations in m/s^2 are about as large as others in g.
        if unit == "m/s2" or ((in_g >= NEAR_G[0]) & (in_g < NEAR_G[1])).mean() >= G_SHARE:
            return unit
    if length > LARGEST * GRAVITY:
        # Raw counts: sensors have a power of two for 1 g.
        return f"{COUNT}{2 ** round(math.log2(length))}"
    return None


def _key_kind(key: bytes) -> str:
    """How a key that is an id is encoded."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        text = ""
    if text.startswith('"') and text.endswith('"') and len(text) > 1:
        return "json"
    if text and text.isprintable():
        return "text"
    by_length = {4: "int32", 8: "int64", 16: "uuid"}
    return by_length.get(len(key), "text")
