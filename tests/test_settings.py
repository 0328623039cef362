from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from stepstream.environment import check_environment, environment_names
from stepstream.errors import SettingsError
from stepstream.settings import (
    RESERVED_PROPERTIES,
    KafkaSettings,
    Settings,
    TopicSettings,
)
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
