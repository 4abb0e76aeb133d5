"""The reference of the SDK says what the code does: settings, examples, responses, files, losses."""

import inspect
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

import brain_events
from brain_events import Config, Stats
from brain_events._delivery.delivery import Delivery
from brain_events._delivery.transport import Response
from brain_events._delivery.verdict import judge
from brain_events._queue import batch_file, outbox
from brain_events.testing import accepted
from brain_events.testing.faulty import FAULTS
from brain_events.wire import FINAL_CODES
from tests.support.sdk import run_script

REFERENCE = Path(__file__).parents[3] / "docs/reference"
DOCS = "\n\n".join((REFERENCE / name).read_text() for name in ("sdk.md", "wire-format.md"))
EXAMPLES = re.findall(r"^```python\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)


def table(first: str) -> list[list[str]]:
    """Return the cells of the table whose head begins with `first`."""
    _, found, rest = DOCS.partition(f"\n| {first} |")
    assert found, first
    rows = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in map(padded, rows)]


def padded(row: str) -> str:
    """Give an empty cell the space on both sides that others have."""
    return re.sub(r"\|(?= \|)", "| ", row)


def shown(default: Any) -> str:
    """Return a default as the settings table writes it."""
    if default is None or default is msgspec.NODEFAULT:
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, frozenset):
        return "`()`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def test_every_setting_is_there_with_its_default_its_variable_and_who_takes_it() -> None:
    given_to_init = inspect.signature(brain_events.init).parameters
    source = Path(inspect.getfile(Config)).read_text()
    variables = set(re.findall(r"BRAIN_EVENTS_[A-Z_]+", source)) - {"BRAIN_EVENTS_"}
    wanted = []
    for field in msgspec.structs.fields(Config):
        variable = f"BRAIN_EVENTS_{field.name.upper()}"
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        wanted.append(
            [
                f"`{field.name}`",
                shown(default),
                f"`{variable}`" if variable in variables else "",
                "`init`" if field.name in given_to_init else "`Config`",
            ]
        )
    rows = [[row[0], row[1], row[4], row[5]] for row in table("name")]
    rows.remove(["`capture_uncaught`", "`true`", "`BRAIN_EVENTS_CAPTURE_UNCAUGHT`", "`init`"])
    assert rows == wanted
    assert set(given_to_init) - set(Config.__struct_fields__) == {"capture_uncaught", "transport"}


def test_every_setting_of_seconds_or_bytes_has_its_unit() -> None:
    for row in table("name"):
        unit = {"s": "s", "bytes": "bytes"}.get(row[0].strip("`").rpartition("_")[2], "")
        assert row[2] == unit, row


@pytest.mark.parametrize("example", EXAMPLES, ids=[str(n) for n in range(len(EXAMPLES))])
def test_every_example_runs(example: str) -> None:
    script = f"from brain_events.testing import capture_events\nwith capture_events():\n exec({example!r}, {{}})"
    done = run_script(script)
    assert done.returncode == 0, done.stderr


def statuses(cell: str) -> list[int]:
    """Return the statuses that a cell names; of a range the ends."""
    return [int(number) for number in re.findall(r"\d{3}", cell)]


def answers(status: int, body: str, count: int) -> list[Response]:
    problems = [
        Response(status, "application/problem+json", msgspec.json.encode({"code": code}))
        for code in sorted(FINAL_CODES)
    ]
    others = [
        Response(status),
        Response(status, "text/html", b"<html>"),
        Response(status, "application/json", b'{"ok":true}'),
    ]
    match body:
        case "a receipt for all events":
            return [msgspec.structs.replace(accepted(count), status=status)]
        case "a problem with a final code":
            return problems
        case "anything else":
            return others
        case "anything":
            return problems + others
    raise AssertionError(body)


def test_every_answer_leads_to_what_the_table_says() -> None:
    for row in table("status"):
        for status in statuses(row[0]):
            for count in {"any": [1, 2, 500], "1": [1], "2 or more": [2, 500]}[row[2]]:
                for answer in answers(status, row[1], count):
                    assert (judge(answer, count).outcome.name.lower(), answer) == (row[3].strip("`"), answer)
    assert all(f"`{code}`" in DOCS for code in FINAL_CODES)


def test_the_file_of_the_example_can_be_read_and_has_every_field() -> None:
    (example,) = re.findall(r"^```json\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)
    data = example.encode()
    assert f"format version `{batch_file.VERSION}`" in DOCS
    assert batch_file.decode(data).count == 1
    assert batch_file.encode_sealed(batch_file.decode(data), "https://events.example.com", 1767225600.0) == data
    fields = [*batch_file.Header.__struct_fields__, *(f"seal.{name}" for name in batch_file.Seal.__struct_fields__)]
    assert [row[0] for row in table("header")] == [f"`{name}`" for name in fields]


def test_the_table_of_losses_has_the_words_of_the_outbox() -> None:
    source = outbox.__doc__ or ""
    body = source.partition("power loss\n")[2].partition("\n(1)")[0]
    words = set(re.findall(r"\w+", body))
    told = set(re.findall(r"\w+", " ".join(" ".join(row) for row in table("mode"))))
    assert words
    assert words <= told


def test_every_figure_and_every_reason_of_loss_is_there() -> None:
    assert [row[0] for row in table("field")] == [f"`{name}`" for name in Stats.__struct_fields__]
    reasons = {row[0].strip("`") for row in table("reason")}
    by_reason = Path(inspect.getfile(Stats)).read_text().partition("By reason:")[2].partition('"""')[0]
    assert set(re.findall(r"`([a-z_]+)`", by_reason)) <= reasons
    assert "unsent" in reasons
    assert '"unsent"' in inspect.getsource(Delivery)


def test_every_fault_of_the_faulty_collector_is_there() -> None:
    assert table("fault") == [[f"`{name}`", does] for name, does in FAULTS.items()]


def test_every_public_name_is_there() -> None:
    assert [name for name in brain_events.__all__ if name not in DOCS and name != "BrainEventsError"] == []
