"""The doctor: check the settings of this environment, and find out why events do not arrive at the collector.

`settings` checks the environment, `network` the connection to the collector, `outbox` the batches that wait on disk,
`journal` the events that wait on tmpfs.
May import the parts of the SDK that it checks. Must not change anything, here or at the collector, or show a secret.
"""

from collections.abc import Iterator, Mapping
from typing import TextIO

import msgspec

from brain_events._printable import json_text, one_line
from brain_events.doctor import journal, network, outbox
from brain_events.doctor.finding import Finding
from brain_events.doctor.settings import Settings, read

_SIGNS = {"ok": "ok   ", "info": "note ", "wrong": "WRONG"}


def run(
    environ: Mapping[str, str], flags: Mapping[str, str | None], out: TextIO, *, timeout_s: float, as_json: bool
) -> int:
    """Run all checks and write the findings to `out`.

    Args:
        environ: The environment variables.
        flags: Settings by name that override the environment, as the arguments of `init` do; None means not set.
        out: Receives the report.
        timeout_s: Maximum time to wait for each response, in seconds.
        as_json: Write JSON, for a program, instead of text.

    Returns:
        The exit code, which is 0 if nothing is wrong and 1 if something is.
    """
    settings = read(environ, flags)
    findings: list[Finding] = []
    if not as_json:
        _write_settings(settings, out)
    for finding in _examine(settings, timeout_s):
        findings.append(finding)
        if not as_json:
            _write(finding, out)
    wrong = sum(finding.level == "wrong" for finding in findings)
    if as_json:
        report = {"ok": not wrong, "settings": settings.shown, "findings": findings}
        out.write(json_text(msgspec.json.format(msgspec.json.encode(report, order="sorted")).decode()) + "\n")
    else:
        out.write(f"\n{'all is well' if not wrong else f'{wrong} of {len(findings)} findings are wrong'}\n")
    return 1 if wrong else 0


def _examine(settings: Settings, timeout_s: float) -> Iterator[Finding]:
    yield from settings.findings
    if settings.config is None:
        return
    if settings.url_known:
        yield from network.examine(settings.config, timeout_s)
    yield from outbox.examine(settings.config)
    yield from journal.examine(settings.config)


def _write_settings(settings: Settings, out: TextIO) -> None:
    out.write("settings (arguments that an application passes to init() are not known here)\n")
    for name, setting in settings.shown.items():
        value = "" if setting.value is None else str(setting.value)
        out.write(f"  {name:<18} {one_line(value):<40} {setting.origin}\n")
    out.write("\nfindings\n")


def _write(finding: Finding, out: TextIO) -> None:
    out.write(f"  {_SIGNS[finding.level]} {finding.check:<12} {one_line(finding.what)}\n")
    if finding.do:
        out.write(f"        {'':<12} -> {one_line(finding.do)}\n")
    out.flush()
