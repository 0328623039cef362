"""Requests that are worked on together get what each gets alone."""

from __future__ import annotations

import asyncio
import io
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import fastavro
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepstream.detection import Model, Series, SeriesBatch, default_model_path
from stepstream.inputs import ErrorCode, InvalidMessage, RegistryAwayError
from stepstream.inputs.framing import frame
from stepstream.inputs.plain_json import PlainJson
from stepstream.settings import InputSettings, RegistrySettings, ServeSettings
from stepstream.web import batches as batches_module
from stepstream.web import decoding
from stepstream.web.batches import ALONE, Batches, Bounds
from stepstream.web.bodies import TooBusy, TooLarge
from tests.builders import encode, reading
from tests.web.test_server import walk

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from stepstream.web.jobs import Found

SINGLES, BATCH, _ = walk(40)


def part(begin: int, count: int) -> dict[str, list[float]]:
    return {name: values[begin : begin + count] for name, values in BATCH.items()}


def cut(begin: int, sizes: Sequence[int]) -> list[dict[str, list[float]]]:
    """Messages one after the other."""
    places = [begin + sum(sizes[:n]) for n in range(len(sizes))]
    return [part(at, size) for at, size in zip(places, sizes, strict=True)]


BEGIN = st.integers(0, 800)
VALID = st.one_of(
    st.builds(part, BEGIN, st.integers(0, 900)),
    st.builds(lambda begin, count: SINGLES[begin : begin + count], BEGIN, st.integers(1, 300)),
    st.builds(cut, BEGIN, st.lists(st.integers(0, 200), min_size=1, max_size=6)),
    st.builds(
        lambda begin, name: {**part(begin, 300), "device_id": name}, BEGIN, st.text(max_size=5)
    ),
)
WRONG = st.sampled_from(
    [
        b"not json",
        b"[",
        b"[]",
        b"{}",
        b'{"device_id":"\xff"}',
        encode([reading(), reading(accel_x=None)]),
        encode([*SINGLES[:40], reading(accel_x=1e9), reading(accel_x=None)]),
        encode([reading(device_id="a"), reading(device_id="b")]),
        encode({**BATCH, "accel_x": [1.0]}),
        encode({name: [1.0] * 10_001 for name in BATCH}),
    ]
)
BODIES = st.one_of(VALID.map(encode), WRONG)


def outcome(found: Found | BaseException) -> Any:
    if isinstance(found, BaseException):
        assert isinstance(found, InvalidMessage | TooLarge | TooBusy), found
        return type(found).__name__, str(found)
    return found


async def find_together(batches: Batches, bodies: Sequence[bytes]) -> list[Any]:
    found = await asyncio.gather(
        *(batches.find(body, None) for body in bodies), return_exceptions=True
    )
    return [outcome(one) for one in found]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 15))


@pytest.fixture(scope="module")
def batches() -> Batches:
    return Batches(ServeSettings(), ALONE)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(BODIES, min_size=1, max_size=8), st.sampled_from([1, 2_000, 1 << 20]))
def test_each_request_gets_what_it_gets_alone(
    batches: Batches, bodies: list[bytes], turn_bytes: int
) -> None:
    alone = [run(find_together(batches, [body]))[0] for body in bodies]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "TURN_BYTES", turn_bytes)
        patch.setattr(decoding, "JOB_BYTES", turn_bytes // 2 + 1)
        assert run(find_together(batches, bodies)) == alone


def test_a_long_request_does_not_hold_up_a_short_one(batches: Batches) -> None:
    order = []

    async def find(name: str, body: bytes) -> None:
        await batches.find(body, None)
        order.append(name)

    async def both() -> None:
        await asyncio.gather(
            find("long", encode([part(0, 3_200)] * 30)), find("short", encode(part(0, 128)))
        )

    run(both())
    assert order == ["short", "long"]


def test_requests_that_come_one_after_the_other_are_judged_together(
    batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    turn = SeriesBatch.turn

    def note(batch: SeriesBatch) -> Any:
        sizes.append(len(batch))
        return turn(batch)

    monkeypatch.setattr(SeriesBatch, "turn", note)
    monkeypatch.setattr(batches_module, "GATHER_S", 10)

    async def arrive() -> None:
        coming = []
        for _ in range(10):
            coming.append(asyncio.create_task(batches.find(encode(part(0, 128)), None)))
            await asyncio.sleep(0)
        await asyncio.gather(*coming)

    run(arrive())
    assert sizes[0] == 10
    sizes.clear()
    monkeypatch.setattr(batches_module, "GATHER_S", 0)
    run(arrive())
    assert sizes[0] < 10


def test_what_is_wrong_is_named_by_its_place_also_after_many_messages(batches: Batches) -> None:
    messages = [*SINGLES[:1_500], reading(accel_x=None)]
    body = encode(messages)
    assert len(body) > 2 * decoding.JOB_BYTES
    name, text = run(find_together(batches, [body]))[0]
    assert name == "InvalidMessage"
    assert text.startswith(f"{ErrorCode.MISSING_FIELD}: message 1500: ")


def test_readings_without_a_time_have_that_of_their_request() -> None:
    """So do those of messages that are decoded in a later turn: none of them is late."""
    times: list[int] = []
    batches = Batches(ServeSettings(), ALONE)
    body = encode([{k: v for k, v in one.items() if k != "timestamp"} for one in SINGLES[:2_000]])

    def note(series: Series) -> Series:
        times.extend(series.time_us.tolist())
        return series

    with pytest.MonkeyPatch.context() as patch:
        added = SeriesBatch.add
        patch.setattr(
            SeriesBatch,
            "add",
            lambda self, series: added(self, note(series)),
        )
        found = run(batches.find(body, None))
    assert found.readings == len(times) == 2_000
    assert len(set(times)) == 1


def test_what_may_wait_has_a_bound_in_number_and_bytes() -> None:
    body = encode(part(0, 128))
    for bounds in (Bounds(3, 1 << 20), Bounds(100, 3 * len(body))):
        batches = Batches(ServeSettings(), bounds)
        found = run(find_together(batches, [body] * 5))
        assert [one[0] for one in found[3:]] == ["TooBusy"] * 2
        assert found[0] == found[1] == found[2]
        # They are free again.
        assert run(find_together(batches, [body])) == found[:1]


def test_decoded_readings_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "MAX_DECODED_READINGS", 1_000)
    monkeypatch.setattr(decoding, "TURN_BYTES", 50_000)
    batches = Batches(ServeSettings(), ALONE)
    held: list[int] = []
    turn = SeriesBatch.turn

    def note(batch: SeriesBatch) -> Any:
        held.append(batches.decoded_readings)
        return turn(batch)

    monkeypatch.setattr(SeriesBatch, "turn", note)
    body = encode(part(0, 600))
    run(find_together(batches, [body] * 20))
    assert 1_000 <= max(held) <= 1_000 + 600
    assert batches.decoded_readings == 0


def test_work_ends_when_nobody_waits_for_it(batches: Batches) -> None:
    async def leave() -> int:
        task = asyncio.create_task(batches.find(encode([part(0, 3_200)] * 30), None))
        while not batches.decoded_readings:  # noqa: ASYNC110 - each turn is looked at
            await asyncio.sleep(0)
        task.cancel()
        turns = 0
        while batches.decoded_readings:
            turns += 1
            await asyncio.sleep(0)
        return turns

    assert run(leave()) <= 3


@pytest.mark.parametrize(
    "place", [(SeriesBatch, "turn"), (SeriesBatch, "add"), (PlainJson, "decode")]
)
def test_an_error_of_ours_is_answered_and_the_next_request_goes_on(
    batches: Batches, monkeypatch: pytest.MonkeyPatch, place: tuple[type, str]
) -> None:
    body = encode(part(0, 400))
    expected = run(batches.find(body, None))

    def fail(*_: Any) -> None:
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(*place, fail)

        async def both() -> list[Any]:
            return await asyncio.gather(
                *(batches.find(body, None) for _ in range(2)), return_exceptions=True
            )

        assert [str(one) for one in run(both())] == ["broken", "broken"]
    assert run(batches.find(body, None)) == expected


def test_a_header_names_the_device_of_its_own_request() -> None:
    given_input = InputSettings(device_id="header:Device-Id")
    batches = Batches(ServeSettings(input=given_input), ALONE)

    async def ask() -> list[Any]:
        found = await asyncio.gather(
            *(batches.find(encode(part(0, 200)), name) for name in ("a", None, "c")),
            return_exceptions=True,
        )
        return [getattr(one, "device_id", None) or one.code for one in found]  # type: ignore[union-attr]

    assert run(ask()) == ["a", ErrorCode.MISSING_KEY, "c"]


class SlowRegistry(BaseHTTPRequestHandler):
    """Has schema 1 at once, schema 2 when it is told to, and is away for any other."""

    goes_on = Event()

    def do_GET(self) -> None:
        known = self.path in {"/schemas/ids/1", "/schemas/ids/2"}
        if self.path == "/schemas/ids/2":
            self.goes_on.wait(10)
        self.send_response(200 if known else 500)
        body = json.dumps({"schema": json.dumps(SCHEMA)} if known else {}).encode()
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


SCHEMA = {
    "type": "record",
    "name": "Readings",
    "fields": [{"name": name, "type": {"type": "array", "items": "double"}} for name in BATCH],
}


def framed(schema_id: int, readings: dict[str, list[float]]) -> bytes:
    written = io.BytesIO()
    fastavro.schemaless_writer(written, SCHEMA, readings)
    return frame(schema_id) + written.getvalue()


def test_a_registry_that_is_slow_holds_up_only_those_who_need_it() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), SlowRegistry) as registry:
        Thread(target=registry.serve_forever, daemon=True).start()
        batches = Batches(
            ServeSettings(
                input=InputSettings(format="avro"),
                registry=RegistrySettings(url=f"http://127.0.0.1:{registry.server_port}"),
            ),
            ALONE,
        )

        async def ask() -> None:
            waits = asyncio.create_task(batches.find(framed(2, part(0, 400)), None))
            away = asyncio.create_task(batches.find(framed(3, part(0, 400)), None))
            found = await batches.find(framed(1, part(0, 400)), None)
            assert found.readings == 400
            with pytest.raises(RegistryAwayError):
                await away
            assert not waits.done()
            SlowRegistry.goes_on.set()
            assert await waits == found

        run(ask())
        batches.close()
        registry.shutdown()


def test_the_answers_are_those_of_the_command(
    batches: Batches, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from stepstream.cli import main  # noqa: PLC0415

    path = tmp_path / "phone.jsonl"
    path.write_text("\n".join(json.dumps({**one, "device_id": "phone"}) for one in SINGLES))
    assert main(["detect", str(path), "--input.device-id", "device_id"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    body = encode([{**one, "device_id": "phone"} for one in SINGLES])
    found = run(find_together(batches, [body, encode(part(0, 500)), body]))
    assert printed
    for one in (found[0], found[2]):
        answered = json.loads(encode_found(one))["steps"]
        assert answered == printed


def encode_found(found: Found) -> bytes:
    from stepstream.web.answers import answer  # noqa: PLC0415

    return bytes(answer(found).body)


def test_the_model_is_loaded_when_somebody_asks() -> None:
    batches = Batches(ServeSettings(), ALONE)
    assert "model" not in vars(batches)
    assert isinstance(batches.model, Model)
    assert batches.model.metadata.label == Model(default_model_path()).metadata.label
