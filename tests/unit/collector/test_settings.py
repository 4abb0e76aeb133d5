"""Settings: each has its variable, flags take precedence, and an error names the value and the remedy."""

import os
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from brain_collector.errors import SettingsError
from brain_collector.settings import ENV_PREFIX, ID_BLOCK, Settings, load

FIELDS = {field.name: field for field in msgspec.structs.fields(Settings)}


def other_than_default(name: str) -> tuple[str, Any]:
    """Return the text of a valid value that is not the default, and the value."""
    default = FIELDS[name].default
    if isinstance(default, bool):
        return ("true" if not default else "false"), not default
    if isinstance(default, int | float):
        other = default / 2 if 0 < default < 1 else default - 1 if default > 1 else default + 1
        return str(other), other
    known = {
        "data_dir": "/some/where",
        "database_url": "postgresql://h/d",
        "direct_url": "postgresql://h:5433/d",
        "redis_url": "redis://h",
        "log_format": "json",
        "log_level": "info",
    }
    return known.get(name, "some-text"), known.get(name, "some-text")


def refusal(environ: dict[str, str], **flags: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        load(environ, **flags)
    return str(refused.value)


def test_without_anything_the_defaults_hold() -> None:
    expected = Settings(data_dir=load({}).data_dir)

    assert load({}) == expected
    assert load({"PATH": "/bin", "BRAIN_EVENTS_URL": "http://x", ENV_PREFIX + "PORT": ""}) == expected


def test_the_data_directory_is_the_systems_for_root_and_the_users_own_for_others() -> None:
    data_dir = load({"XDG_DATA_HOME": "/home/me/data"}).data_dir

    assert data_dir == ("/var/lib/brain-events" if os.geteuid() == 0 else "/home/me/data/brain-events")


@pytest.mark.parametrize("name", sorted(set(FIELDS) - {"api_key_file"}))
def test_every_setting_is_read_from_its_variable_and_a_flag_stands_over_it(name: str) -> None:
    text, value = other_than_default(name)
    others = {f"{ENV_PREFIX}DATABASE_URL": "postgresql:///events"} if name == "direct_url" else {}

    assert getattr(load(others | {ENV_PREFIX + name.upper(): text}), name) == value
    assert getattr(load(others, **{name: text}), name) == value
    if FIELDS[name].default is not None:
        again = getattr(load({ENV_PREFIX + name.upper(): text}, **{name: str(FIELDS[name].default)}), name)
        assert again == FIELDS[name].default


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_is_described(name: str) -> None:
    described = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"][name]

    assert described["description"].endswith(".")
    assert "default" in described


def test_a_flag_that_is_none_leaves_the_variable_alone() -> None:
    assert load({"BRAIN_COLLECTOR_PORT": "7"}, port=None).port == 7


@pytest.mark.parametrize(
    ("name", "text", "remedy"),
    [
        ("PORT", "many", "must be a whole number"),
        ("PORT", "70000", "up to 65535"),
        ("PORT", "-1", "from 0"),
        ("INSECURE", "perhaps", "must be true or false"),
        ("LIST_TTL_S", "0", "above 0"),
        ("LIST_TTL_S", "soon", "must be a number"),
        ("MAX_BATCH_EVENTS", str(ID_BLOCK + 1), f"up to {ID_BLOCK}"),
        ("GROUP_ROWS", "0", "above 0"),
        ("DAYS_AHEAD", "1", "from 2"),
        ("IDEMPOTENCY_KEY_LIFE_DAYS", "5", "from 6"),
        ("LOG_FORMAT", "xml", "auto or json or text"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(name: str, text: str, remedy: str) -> None:
    by_variable = refusal({ENV_PREFIX + name: text})
    by_flag = refusal({}, **{name.lower(): text})

    assert by_variable.startswith(f"{ENV_PREFIX}{name} is {text!r}, must be ")
    assert by_flag.startswith(f"--{name.lower().replace('_', '-')} is {text!r}, must be ")
    assert remedy in by_variable
    assert remedy in by_flag


def test_a_mistyped_variable_is_refused_and_the_likely_one_is_named() -> None:
    message = refusal({"BRAIN_COLLECTOR_PROT": "1"})

    assert message.startswith("BRAIN_COLLECTOR_PROT is not a setting")
    assert "did you mean BRAIN_COLLECTOR_PORT?" in message


@pytest.mark.parametrize(
    ("flag", "url"), [("database_url", "mysql://x/y"), ("database_url", "foo"), ("redis_url", "foo")]
)
def test_a_url_of_another_kind_is_refused_at_once(flag: str, url: str) -> None:
    assert "must begin with" in refusal({}, **{flag: url})


def test_a_tilde_is_the_users_home() -> None:
    assert load({"BRAIN_COLLECTOR_DATA_DIR": "~/x"}).data_dir == str(Path("~/x").expanduser())


@pytest.mark.parametrize("key", ["kä", " s3 ", "a b"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    assert "printable ASCII" in refusal({"BRAIN_COLLECTOR_API_KEY": key})


def test_a_batch_and_a_group_fit_into_a_block_of_ids() -> None:
    assert Settings().max_batch_events <= ID_BLOCK
    assert Settings().group_rows <= ID_BLOCK


def test_the_key_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("  s3cret \nsecond line\n")

    assert load({}, api_key_file=str(file)).api_key == "s3cret"
    assert load({"BRAIN_COLLECTOR_API_KEY_FILE": str(file)}).api_key == "s3cret"
    assert load({"BRAIN_COLLECTOR_API_KEY": "given"}, api_key_file=str(file)).api_key == "given"


def test_a_key_file_that_cannot_be_read_or_is_empty_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\nkey\n")

    assert f"{empty}: its first line is empty" in refusal({}, api_key_file=str(empty))
    assert f"{tmp_path / 'none'}: No such file" in refusal({}, api_key_file=str(tmp_path / "none"))
    assert f"{tmp_path}: Is a directory" in refusal({}, api_key_file=str(tmp_path))


def test_the_database_address_is_plain_for_asyncpg() -> None:
    plain = "postgresql://me:pw@host/db?sslmode=require"

    assert Settings(database_url=plain).dsn == plain
    assert Settings(database_url=plain.replace("postgresql", "postgresql+asyncpg")).dsn == plain
    with pytest.raises(SettingsError, match="--database-url"):
        _ = Settings().dsn


def test_host_names_are_split_trimmed_and_lower_case() -> None:
    assert Settings(allowed_hosts=" A.example, b.example,,").hosts == {"a.example", "b.example"}
    assert Settings().hosts == frozenset()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Settings().port = 1  # type: ignore[misc]


def test_every_limit_of_size_and_time_must_be_positive() -> None:
    for name, field in FIELDS.items():
        default = field.default
        if type(default) in {int, float} and name != "port":
            limits = [meta for meta in get_args(field.type) if isinstance(meta, msgspec.Meta)]
            assert any(meta.gt is not None or meta.ge is not None for meta in limits), name
