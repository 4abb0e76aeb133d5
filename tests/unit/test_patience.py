"""No test depends on how fast the machine is: requests have the suite's time-out, and no assertion looks at a clock."""

import ast
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]
REQUESTS = {"get", "post", "put", "delete", "request", "stream", "Client", "AsyncClient"}
CLOCKS = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time"}


@cache
def nodes() -> list[tuple[str, ast.AST]]:
    return [
        (f"{path.relative_to(TESTS)}:{getattr(node, 'lineno', 0)}", node)
        for path in sorted(TESTS.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call | ast.Assert)
    ]


def test_every_request_has_a_time_out_of_its_own() -> None:
    """The five seconds of httpx end a request on a busy machine."""
    without = [
        place
        for place, node in nodes()
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and (node.func.value.id, node.func.attr in REQUESTS) == ("httpx", True)
        and not {"timeout", "transport"} & {keyword.arg for keyword in node.keywords}
    ]

    assert without == []


def test_no_assertion_looks_at_a_clock() -> None:
    """But for the support code's own end of a wait."""
    asserting = [
        place
        for place, node in nodes()
        if isinstance(node, ast.Assert) and not place.startswith("support/waiting.py")
        if any(isinstance(part, ast.Attribute) and part.attr in CLOCKS for part in ast.walk(node.test))
    ]

    assert asserting == []
