from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from stepstream.commands.detect import Detect
from stepstream.environment import check_environment, environment_names
from stepstream.errors import SettingsError
from stepstream.settings import (
    RESERVED_PROPERTIES,
    InputSettings,
    KafkaSettings,
    RegistrySettings,
    SensorSettings,
    Settings,
    TopicSettings,
)
from stepstream.settings.inputs import ACCELERATIONS, ANGULAR_VELOCITIES, unit_factor
from stepstream.settings_reference import render_reference

ROOT = Path(__file__).resolve().parents[1]


def test_the_environment_sets_nested_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPSTREAM_KAFKA__BOOTSTRAP_SERVERS", "a:1,b:2")
    monkeypatch.setenv("STEPSTREAM_TOPICS__READINGS", "one, two")
    monkeypatch.setenv("STEPSTREAM_PROCESSING__IDLE_TIMEOUT_S", "60")
    monkeypatch.setenv("STEPSTREAM_KAFKA__PROPERTIES", '{"fetch.min.bytes": 5}')
    settings = Settings()
    assert settings.kafka.bootstrap_servers == "a:1,b:2"
    assert settings.topics.readings == ("one", "two")
    assert settings.processing.idle_timeout_s == 60
    assert settings.kafka.properties == {"fetch.min.bytes": 5}
    assert settings.topics.events == "step-events"


def test_a_group_begins_at_an_end_or_at_a_time_with_its_zone() -> None:
    given = {"2030-01-31T12:00:00Z", "2030-01-31T13:00:00+01:00", "2030-01-31 12:00Z"}
    times = {KafkaSettings.model_validate({"start_at": at}).start_at for at in given}
    assert times == {datetime(2030, 1, 31, 12, tzinfo=UTC)}
    for wrong in ("begin", "2030-01-31T12:00:00", "2030-01-31", "1900000000", 1_900_000_000):
        with pytest.raises(ValidationError, match="expected earliest, latest, or a time with its"):
            KafkaSettings.model_validate({"start_at": wrong})


def test_a_name_that_begins_with_a_circumflex_is_a_pattern(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STEPSTREAM_TOPICS__READINGS", r"phones,^sensors\..*,^watch")
    topics = Settings().topics
    assert (topics.named, topics.patterns) == (("phones",), (r"^sensors\..*", "^watch"))
    names = ("phones", "sensors.a", "sensors", "my.sensors.a", "watches", "__consumer_offsets")
    assert [name for name in names if topics.matches(name)] == ["sensors.a", "watches"]
    assert [name for name in names if topics.reads(name)] == ["phones", "sensors.a", "watches"]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"^(sensors", "is no regular expression"),
        (r"^.*", "matches step-events, a topic that stepstream writes"),
        (r"^stepstream", "matches stepstream-state, a topic that stepstream writes"),
        (r"^sensor-readings", r"matches sensor-readings\.dlq, a topic that stepstream writes"),
    ],
)
def test_a_pattern_that_cannot_be_meant_is_refused(pattern: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TopicSettings(readings=(pattern,))


def test_a_group_knows_what_was_set_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Settings().http.model_fields_set
    monkeypatch.setenv("STEPSTREAM_HTTP__TOKEN", "x" * 20)
    monkeypatch.setenv("STEPSTREAM_WORKERS", "3")
    assert Settings().http.model_fields_set == {"token"}
    assert Settings().workers == 3


def test_workers_share_no_name_in_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    check_environment()
    monkeypatch.setenv("STEPSTREAM_WORKERS", "2")
    monkeypatch.setenv("STEPSTREAM_KAFKA__PROPERTIES", '{"group.instance.id": "a"}')
    check_environment()
    with pytest.raises(ValidationError, match=r"can't share one group\.instance\.id"):
        Settings()


def test_a_dotenv_file_gives_way_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("STEPSTREAM_KAFKA__GROUP_ID=file\nSTEPSTREAM_HTTP__PORT=9\n")
    monkeypatch.setenv("STEPSTREAM_KAFKA__GROUP_ID", "environment")
    settings = Settings()
    assert settings.kafka.group_id == "environment"
    assert settings.http.port == 9


def test_a_misspelt_variable_is_an_error_with_the_nearest_right_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_environment()
    monkeypatch.setenv("STEPSTREAM_KAFKA__GROUPID", "x")
    with pytest.raises(SettingsError, match="did you mean STEPSTREAM_KAFKA__GROUP_ID"):
        check_environment()


def test_a_misspelt_variable_in_the_dotenv_file_is_one_too() -> None:
    Path(".env").write_text("STEPSTREAM_TOPIC__EVENTS=x\nOTHER_PROGRAM=1\n")
    with pytest.raises(SettingsError, match=r"in \.env .*STEPSTREAM_TOPICS__EVENTS"):
        check_environment()


@pytest.mark.parametrize("name", sorted(RESERVED_PROPERTIES))
def test_properties_that_the_guarantees_rest_on_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="can't be set here"):
        KafkaSettings(properties={name: "x"})


def test_secrets_come_from_files_too_and_show_nowhere(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    kafka = KafkaSettings(sasl_password_file=file)
    assert kafka.sasl_password is not None
    assert kafka.sasl_password.get_secret_value() == "hunter2"
    assert "hunter2" not in f"{kafka!r} {kafka} {kafka.model_dump()} {kafka.model_dump_json()}"


def test_secrets_are_hidden_in_texts_even_in_part() -> None:
    properties = {
        "sasl.oauthbearer.config": "principal=me key=s3cr3t-one",
        "sasl.oauthbearer.client.secret": "s3cr3t-two",
        "ssl.key.pem": "-----BEGIN KEY-----\ns3cr3t-three\n-----END KEY-----",
        "fetch.min.bytes": 54321,
    }
    kafka = KafkaSettings(sasl_password="s3cr3t-four", properties=properties)  # noqa: S106
    text = "at: key=s3cr3t-one, s3cr3t-two; s3cr3t-three s3cr3t-four 54321"
    assert kafka.hide_secrets(text) == "at: ***, ***; *** *** 54321"
    assert "s3cr3t" not in repr(kafka)
    assert Settings(kafka=kafka).hide_secrets("s3cr3t-four") == "***"


def test_a_secret_that_cannot_be_read_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="ssl_key_password_file: can't read"):
        KafkaSettings(ssl_key_password_file=tmp_path / "none")
    file = tmp_path / "password"
    file.write_text("a")
    with pytest.raises(ValidationError, match="not both"):
        KafkaSettings(sasl_password="b", sasl_password_file=file)  # noqa: S106


def test_one_topic_cannot_serve_two_purposes() -> None:
    with pytest.raises(ValidationError, match="step-events is used for two things"):
        TopicSettings(readings=("step-events",))


def test_the_topics_that_are_written_are_all_but_the_readings() -> None:
    topics = TopicSettings(readings=("a", "b"), events="e", state="s", dead_letters="d")
    assert topics.written == ("e", "d", "s")


def test_the_environment_names_of_deployments_exist() -> None:
    kafka = ["BOOTSTRAP_SERVERS", "GROUP_ID", "TRANSACTIONAL_ID", "PROPERTIES"]
    topics = ["READINGS", "EVENTS", "STATE", "DEAD_LETTERS"]
    processing = ["GUARANTEE", "COMMIT_INTERVAL_MS", "IDLE_TIMEOUT_S"]
    fixed = [
        *(f"KAFKA__{name}" for name in kafka),
        *(f"TOPICS__{name}" for name in topics),
        *(f"PROCESSING__{name}" for name in processing),
        *(
            f"INPUT__{name}"
            for name in (
                "FORMAT",
                "READINGS",
                "FIELDS",
                "DEVICE_ID",
                "KEY",
                "TIME_UNIT",
                "ACCEL_UNIT",
                "GYRO_UNIT",
                "SENSOR",
                "SCHEMA",
                "MESSAGE_TYPE",
            )
        ),
        *(f"REGISTRY__{name}" for name in ("URL", "USERNAME", "PASSWORD", "CA_LOCATION")),
        "INPUTS",
        "MODEL__PATH",
        "HTTP__PORT",
    ]
    assert {f"STEPSTREAM_{name}" for name in fixed} <= set(environment_names())


def test_the_reference_in_the_docs_is_that_of_the_settings() -> None:
    reference = ROOT / "docs" / "settings.md"
    assert reference.read_text() == render_reference(), (
        "python -m stepstream.settings_reference > docs/settings.md"
    )
    for name in environment_names():
        assert f"`{name}`" in reference.read_text()


def test_the_environment_says_how_messages_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "INPUT__FORMAT": "avro",
        "INPUT__SCHEMA": "reading.avsc",
        "INPUT__FIELDS": '{"timestamp": "ts", "accel_x": "acc.0"}',
        "INPUT__SENSOR": '{"path": "s", "accelerometer": "acc", "gyroscope": 2}',
        "INPUTS": '{"b": {"format": "json", "schema": null, "time_unit": "ms"}}',
        "TOPICS__READINGS": "a,b",
    }.items():
        monkeypatch.setenv(f"STEPSTREAM_{name}", value)
    check_environment()
    settings = Settings()
    assert settings.input.schema_ == Path("reading.avsc")
    assert settings.input_of("a") == settings.input
    other = settings.input_of("b")
    assert (other.format, other.schema_, other.time_unit) == ("json", None, "ms")
    assert other.fields == {"timestamp": "ts", "accel_x": "acc.0"}
    assert other.sensor == SensorSettings(path="s", accelerometer="acc", gyroscope=2)
    monkeypatch.setenv("STEPSTREAM_INPUT__SCHEMA", "other.avsc")
    assert Detect(files=[Path("a.csv")]).input.schema_ == Path("other.avsc")


def test_units_are_taken_from_their_former_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPSTREAM_PROCESSING__ACCEL_UNIT", "g")
    monkeypatch.setenv("STEPSTREAM_PROCESSING__TIME_UNIT", "ms")
    assert Settings().input == InputSettings(accel_unit="g", time_unit="ms")
    monkeypatch.setenv("STEPSTREAM_INPUT__TIME_UNIT", "us")
    with pytest.raises(ValidationError, match=r"input\.time_unit and its former name"):
        Settings()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"fields": {"accel": "x"}}, r"fields\.accel"),
        ({"fields": {"accel_x": "a..x"}}, r"fields\.accel_x\n.*'a..x' is no path"),
        ({"fields": {"accel_x": "a.*.b.*"}}, "one . at most, behind the name of a list"),
        ({"fields": {"accel_x": "*.x"}}, "one . at most, behind the name of a list"),
        ({"fields": {"start": "a.*", "rate": "r"}}, "start is one number"),
        ({"readings": "a.*"}, "only paths of axes and of timestamp may have a"),
        ({"device_id": "a.*"}, "only paths of axes and of timestamp may have a"),
        ({"rate": 50}, "and they need start"),
        ({"rate": 50, "fields": {"start": "t", "period": "dt"}}, "give one of both"),
        ({"readings": ""}, "readings\n.*'' is no path"),
        ({"readings": ".".join("a" * 20)}, "over 16 parts"),
        ({"device_id": "header:"}, "the header has no name"),
        ({"device_id": "a."}, "device_id\n.*'a.' is no path"),
        ({"fields": {"accel_x": "a", "accel_y": "a"}}, "accel_x can't be at a and accel_y at a"),
        ({"fields": {"accel_x": "a", "gyro_y": "a.b"}}, "accel_x can't be at a and gyro_y at a.b"),
        ({"fields": {"start": "t"}}, "start needs period or rate in fields, or input.rate"),
        ({"fields": {"rate": "t"}}, "start needs period or rate"),
        ({"fields": {"start": "t", "period": "a", "rate": "b"}}, "period or rate, not both"),
        ({"fields": {"start": "t", "timestamp": "a", "rate": "b"}}, "timestamp or start, not both"),
        ({"fields": {"timestamp": "t"}, "time_unit": "record"}, "there is no timestamp"),
        ({"format": "senml", "time_unit": "ms"}, "times of SenML are in s, not ms"),
        ({"accel_unit": "furlong"}, "accel_unit\n.*'furlong' is no unit; expected one of m/s2, g"),
        ({"accel_unit": "g/0"}, "is no unit"),
        ({"gyro_unit": "g"}, "gyro_unit\n.*is no unit"),
        ({"sensor": {"path": "s", "accelerometer": 1, "gyroscope": 1}}, "have the same value"),
        ({"schema": "a.avsc"}, "a schema is of no use with the format json"),
        ({"message_type": "A"}, "message_type is of no use"),
        ({"format": "protobuf", "schema": "a.desc"}, "message_type has to name the message"),
    ],
)
def test_what_cannot_be_right_in_an_input_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        InputSettings.model_validate(given)


def test_units_may_say_what_a_count_is() -> None:
    assert unit_factor("g/16384", ACCELERATIONS) == pytest.approx(9.80665 / 16384)
    assert unit_factor("0.061 mg", ACCELERATIONS) == pytest.approx(0.061e-3 * 9.80665)
    assert unit_factor("deg/s/131", ANGULAR_VELOCITIES) == pytest.approx(math.pi / 180 / 131)
    assert unit_factor("m/s2", ACCELERATIONS) == 1


def test_a_topic_may_differ_only_if_it_is_read() -> None:
    with pytest.raises(ValidationError, match=r"inputs: other is not among topics\.readings"):
        Settings(inputs={"other": {}})
    with pytest.raises(ValidationError, match="inputs: sensor-readings: formt: Extra inputs"):
        Settings(inputs={"sensor-readings": {"formt": "json"}})
    with pytest.raises(ValidationError, match=r"topic sensor-readings: avro needs registry\.url"):
        Settings(input=InputSettings(format="avro"))


def test_the_registry_has_a_user_or_none_and_its_password_is_hidden() -> None:
    with pytest.raises(ValidationError, match="username and password belong together"):
        RegistrySettings(username="a")
    with pytest.raises(ValidationError, match="url"):
        RegistrySettings(url="registry:8081")
    registry = RegistrySettings(url="https://a", username="me", password="s3cr3t")  # noqa: S106
    assert Settings(registry=registry).hide_secrets("me:s3cr3t") == "me:***"


def test_what_is_different_in_a_topic_may_be_said_of_a_pattern() -> None:
    settings = Settings(
        topics=TopicSettings(readings=("phones", r"^sensors\..*")),
        inputs={
            "sensors.watch": {"accel_unit": "g"},
            r"^sensors\.w": {"time_unit": "ms"},
            r"^sensors\.": {"time_unit": "us"},
        },
    )
    units = {
        name: (settings.input_of(name).time_unit, settings.input_of(name).accel_unit)
        for name in ("phones", "sensors.watch", "sensors.wrist", "sensors.belt")
    }
    assert units == {
        "phones": ("s", "m/s2"),
        "sensors.watch": ("s", "g"),
        "sensors.wrist": ("ms", "m/s2"),
        "sensors.belt": ("us", "m/s2"),
    }
    with pytest.raises(ValidationError, match="is no regular expression"):
        Settings(inputs={"^(": {}})
    with pytest.raises(ValidationError, match=r"elsewhere is not among topics\.readings"):
        Settings(inputs={"elsewhere": {"accel_unit": "g"}})
