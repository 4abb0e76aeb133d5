"""Database URLs: as providers hand them out they work, and what would lower security if ignored is refused."""

import ssl
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brain_collector.addresses.database_url import connect_arguments
from brain_collector.errors import SettingsError

NOTHING: dict[str, str] = {}
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


def refusal(url: str) -> str:
    with pytest.raises(SettingsError) as refused:
        connect_arguments(url)
    return str(refused.value)


@pytest.mark.parametrize(
    ("url", "arguments"),
    [
        ("postgresql://h/d", {"host": ["h"], "database": "d"}),
        ("postgres://u:p%40%2F%3A@h:1", {"user": "u", "password": "p@/:", "host": ["h"], "port": [1]}),
        ("postgresql+asyncpg://u:a:b@h", {"user": "u", "password": "a:b", "host": ["h"]}),
        ("postgresql://[::1]:5433,h/d", {"host": ["::1", "h"], "port": [5433, 5432], "database": "d"}),
        ("postgresql://u@/d?host=/run/x&port=5432", {"user": "u", "host": ["/run/x"], "port": [5432], "database": "d"}),
        ("postgresql://%2Frun%2Fx/d", {"host": ["/run/x"], "database": "d"}),
        ("postgresql:///?host=a,b&port=1,2&dbname=d", {"host": ["a", "b"], "port": [1, 2], "database": "d"}),
        ("postgresql://", {}),
        ("postgresql://h/d?passfile=/p&service=s&target_session_attrs=read-write", {
            "host": ["h"], "database": "d", "passfile": "/p", "service": "s", "target_session_attrs": "read-write",
        }),
        ("postgresql://h?sslmode=verify-full&sslrootcert=/a%20b", {
            "host": ["h"], "dsn": "postgresql://?sslmode=verify-full&sslrootcert=%2Fa+b",
        }),
    ],
)  # fmt: skip
def test_a_url_becomes_the_arguments_of_the_driver(url: str, arguments: dict[str, Any]) -> None:
    assert connect_arguments(url) == {**arguments, "server_settings": NOTHING}


@pytest.mark.parametrize(
    "parameters",
    [
        "connect_timeout=5",
        "keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3&tcp_user_timeout=1",
        "gssencmode=disable",
        "gssencmode=prefer&channel_binding=prefer",
        "application_name=mine&client_encoding=utf8&load_balance_hosts=random",
    ],
)
def test_a_parameter_of_libpq_that_does_not_make_it_safer_is_accepted_without_effect(parameters: str) -> None:
    assert connect_arguments(f"postgresql://h/d?{parameters}") == connect_arguments("postgresql://h/d")


@pytest.mark.parametrize(
    "parameter",
    [
        *("gssencmode=require", "channel_binding=maybe", "requirepeer=postgres", "require_auth=scram-sha-256"),
        *(
            "sslcrldir=/x",
            "sslcertmode=require",
            "hostaddr=10.0.0.1",
            "requiressl=1",
            "ssl=true",
            "replication=database",
        ),
    ],
)
def test_a_parameter_that_cannot_be_honoured_is_refused_by_name(parameter: str) -> None:
    assert f"has the parameter {parameter.partition('=')[0]}, which is not supported" in refusal(
        f"postgresql://h?{parameter}"
    )


def test_other_parameters_are_settings_of_the_session_below_those_of_the_collector() -> None:
    url = "postgresql://h?options=-c%20jit%3Doff&search_path=mine&DateStyle=German&statement_timeout=0"
    arguments = connect_arguments(url, {"statement_timeout": "5000", "datestyle": "ISO, MDY"})

    assert arguments["server_settings"] == {
        "options": "-c jit=off", "search_path": "mine", "statement_timeout": "5000", "datestyle": "ISO, MDY",
    }  # fmt: skip


@pytest.mark.parametrize(
    "parameters",
    [
        "sslrootcert=system",
        "sslmode=verify-full&sslrootcert=system",
        "channel_binding=require",
        "sslmode=require&channel_binding=require",
    ],
)
def test_the_system_s_certificates_verify_the_server_and_its_name(parameters: str) -> None:
    context = connect_arguments(f"postgresql://h?{parameters}")["ssl"]

    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_channel_binding_with_a_certificate_of_ones_own_verifies_by_that() -> None:
    arguments = connect_arguments("postgresql://h?sslmode=require&channel_binding=require&sslrootcert=/ca")

    assert arguments["dsn"] == "postgresql://?sslmode=verify-full&sslrootcert=%2Fca"


@pytest.mark.parametrize(
    ("parameters", "remedy"),
    [
        ("sslmode=disable&channel_binding=require", "which needs TLS"),
        ("sslmode=require&sslrootcert=system", "use sslmode=verify-full"),
        ("sslrootcert=system&sslcrl=/x", "sslcrl, which is not supported"),
        ("sslrootcert=system&sslcert=/nonexistent", "the certificate cannot be read"),
        ("sslmode=verify", "not one of disable, allow"),
        ("sslmode=", "not one of disable, allow"),
        ("x", "malformed parameter"),
        ("port=1,2,3", "1 hosts and 3 ports"),
    ],
)
def test_a_contradiction_is_refused(parameters: str, remedy: str) -> None:
    assert remedy in refusal(f"postgresql://h?{parameters}")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://owner1:p@Zq7x/w:rd?#1@127.0.0.1:26432/own1",
        "postgresql://u:Zq@7x@h/d",
        "postgresql://u:Zq/7x@h/d",
        "postgresql://u:Zq?7x@h/d",
        "postgresql://u:p@h/d?password=Zq#7x",
        "postgresql://u:Zq7x/d",
        "postgresql://h:Zq7x/d",
        "postgresql://[Zq7x/d",
        "postgresql://u:p@h/d?Zq7x",
        "host=h password=Zq7x",
        "Zq7x",
        "Zq7x://h",
    ],
)
def test_an_error_quotes_nothing_that_could_be_of_a_password(url: str) -> None:
    assert not [piece for piece in ("Zq", "7x") if piece in refusal(url)]


@given(TEXTS, TEXTS, TEXTS)
def test_what_is_percent_encoded_arrives_as_it_was(user: str, password: str, database: str) -> None:
    encoded = ["".join(f"%{byte:02X}" for byte in text.encode()) for text in (user, password, database)]
    arguments = connect_arguments("postgresql://{}:{}@h/{}".format(*encoded))

    assert (arguments["user"], arguments["password"], arguments["database"]) == (user, password, database)
