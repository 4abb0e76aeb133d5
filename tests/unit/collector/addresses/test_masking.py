"""Masking: no part of a password is shown, whatever a URL looks like; what helps to recognise a server is."""

import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brain_collector.addresses.masking import MIN_CUT_CHARS, masked, without_secrets

PIECES = st.lists(st.sampled_from(["Zq7x", "Wk3v", "Jm9y"]), min_size=1, max_size=3, unique=True)
PUNCTUATION = "@/:?#&=%+ ;,$!'\"\\\n\x1b[]"
USERS = st.sampled_from(["", "owner", "u%3Ax"])
HOSTS = st.sampled_from(["h", "127.0.0.1:1", "[::1]:5432", "a:1,b:2", ""])
SCHEMES = st.sampled_from(["postgresql", "postgres", "postgresql+asyncpg", "redis", "rediss", "valkeys", "unix"])
SECRET_PARAMETERS = st.sampled_from(["password", "sslpassword", "pass%77ord", "user", "options", "ssl_password", "x"])


@st.composite
def secrets(draw: st.DrawFn) -> tuple[list[str], str]:
    """Return the pieces that must not be shown, and a password of them with any punctuation around each."""
    pieces = draw(PIECES)
    around = [draw(st.text(PUNCTUATION, max_size=2)) for _ in range(len(pieces) + 1)]
    return pieces, around[0] + "".join(piece + mark for piece, mark in zip(pieces, around[1:], strict=True))


@given(secrets(), SCHEMES, USERS, HOSTS)
def test_no_piece_of_a_password_before_the_host_is_shown(
    secret: tuple[list[str], str], scheme: str, user: str, host: str
) -> None:
    pieces, password = secret
    shown = masked(f"{scheme}://{user}:{password}@{host}/db?sslmode=require")

    assert not [piece for piece in pieces if piece in shown]
    assert re.fullmatch(r"[ -~]+", shown)


@given(secrets(), SCHEMES, SECRET_PARAMETERS, st.sampled_from(["", "u:pw@", "u@"]))
def test_no_piece_of_a_password_in_a_parameter_is_shown(
    secret: tuple[list[str], str], scheme: str, parameter: str, user: str
) -> None:
    pieces, password = secret
    assignment = f"{parameter}={password.replace('&', '').replace('=', '')}"
    for parameters in (f"sslmode=require&{assignment}", f"{assignment}&sslmode=require"):
        shown = masked(f"{scheme}://{user}h/db?{parameters}")
        assert not [piece for piece in pieces if piece in shown]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://owner:pw@h1:5432,h2/db?sslmode=require", "postgresql://owner:***@h1:5432,h2/db?sslmode=require"),
        ("postgresql://127.0.0.1:1/db?user=u&password=pw", "postgresql://127.0.0.1:1/db?user=***&password=***"),
        ("postgresql://h/db?sslpassword=pw", "postgresql://h/db?sslpassword=***"),
        ("postgresql://owner1:p@ss/w:rd?#1@127.0.0.1:26432/own1", "postgresql://***"),
        ("postgresql://u:S3c@r3tPW@h", "postgresql://u:***@h"),
        (
            "postgresql://brain@/postgres?host=/data/run&port=5432",
            "postgresql://***@/postgres?host=/data/run&port=5432",
        ),
        ("redis://:pw@h:6379/0", "redis://:***@h:6379/0"),
        ("redis://token@h:6379", "redis://***@h:6379"),
        ("redis://u%3Apw@h:6379", "redis://***@h:6379"),
        ("redis://:pw", "redis://***"),
        ("unix:///run/valkey.sock?db=1", "unix:///run/valkey.sock?db=1"),
        ("host=h password=pw", "***"),
        ("postgres:pw@h", "***"),
    ],
)
def test_only_what_helps_to_recognise_the_server_is_shown(url: str, shown: str) -> None:
    assert masked(url) == shown


@given(
    secrets(), st.sampled_from(["redis://u:{}@h/0", "postgresql://h/db?user=u&password={}", "unix:///s?pass%77ord={}"])
)
def test_no_piece_of_a_password_is_left_in_a_text_that_quotes_it(secret: tuple[list[str], str], form: str) -> None:
    pieces, password = secret
    written = quote(password, safe="")
    text = without_secrets(f"unknown command 'AUTH' '{password}' '{written}'", form.format(written))

    assert not [piece for piece in pieces if piece in text]
    assert text.startswith("unknown command 'AUTH' '")


def test_a_text_that_quotes_only_the_beginning_of_a_password_is_masked_too() -> None:
    password = "Zq7xWk3vJm9y" * 20
    text = without_secrets(f"'AUTH' '{password[:100]}'", f"redis://:{password}@h")

    assert text == "'AUTH' '***'"
    assert without_secrets(password[: MIN_CUT_CHARS - 1], f"redis://:{password}@h") != "***"


def test_a_text_without_a_secret_stays_as_it_is() -> None:
    assert without_secrets('database "db" does not exist', "postgresql://db:@h/db?dbname=db") == (
        'database "db" does not exist'
    )
