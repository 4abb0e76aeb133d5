"""Database URLs as providers hand them out: the driver connects with them, and the session is the collector's."""

import msgspec
import pytest

from brain_collector.settings import Settings, load
from brain_collector.storage import migrate, schema_version
from brain_collector.storage.connection import connect
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "parameters",
    [
        "channel_binding=prefer&connect_timeout=5&gssencmode=disable",
        "keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3",
        "sslmode=prefer&sslsni=1&application_name=mine",
        "channel_binding=require",  # a socket has nobody in the middle
        "options=-c%20work_mem%3D5MB%20-c%20statement_timeout%3D0",
        "work_mem=5MB",
    ],
)
async def test_a_connection_opens_with_the_parameters_of_providers(settings: Settings, parameters: str) -> None:
    url = f"{settings.database_url}&{parameters}"
    assert load({}, database_url=url).database_url == url
    assert await migrate.current(url) == schema_version.HEAD
    connection = await connect(msgspec.structs.replace(settings, database_url=url), statement_timeout_s=PATIENCE_S)
    try:
        found = await connection.fetchrow(
            "SELECT current_setting('application_name') AS name, current_setting('statement_timeout') AS patience,"
            " current_setting('work_mem') AS memory"
        )
    finally:
        await connection.close()

    assert found is not None
    assert (found["name"], found["patience"]) == ("brain-events", f"{PATIENCE_S / 60:.0f}min")
    assert found["memory"] == ("5MB" if "work_mem" in parameters else "4MB")
