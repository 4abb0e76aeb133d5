"""Metrics as `promtool check metrics` requires them, and none besides those that the reference lists."""

import re

from prometheus_client.parser import text_string_to_metric_families

from brain_collector.metrics import METRICS, Metrics, Reading

OTHER_UNITS = {
    *("milliseconds", "microseconds", "minutes", "hours", "days", "weeks", "ms"),
    *("bits", "kilobytes", "kibibytes", "megabytes", "mebibytes", "gigabytes", "kb", "mb", "gb", "percent"),
}
"""Units that a base unit (seconds, bytes, ratio) replaces."""


def served() -> str:
    metrics = Metrics()
    for metric in METRICS:
        if metric.kind == "counter" and not metric.at_scrape:
            metrics.add(metric, *metric.labels)
        elif metric.kind == "histogram":
            metrics.observe(metric, 1.0, *metric.labels)
    readings = (Reading(metric, 1.0, metric.labels) for metric in METRICS if metric.at_scrape)
    return metrics.text(readings).decode()


def test_every_metric_has_a_base_unit() -> None:
    named = {metric.name: OTHER_UNITS.intersection(metric.name.split("_")) for metric in METRICS}

    assert {name: units for name, units in named.items() if units} == {}


def test_only_counters_end_in_total_and_no_gauge_in_a_suffix_of_histograms() -> None:
    assert all(metric.name.endswith("_total") == (metric.kind == "counter") for metric in METRICS)
    assert not [
        metric.name for metric in METRICS if re.search(r"_(count|sum|bucket|gauge|counter|info_total)$", metric.name)
    ]


def test_no_label_is_one_that_prometheus_sets_itself() -> None:
    assert {label for metric in METRICS for label in metric.labels}.isdisjoint({"job", "instance", "le", "quantile"})


def test_every_metric_that_is_served_is_in_the_reference() -> None:
    names = {family.name for family in text_string_to_metric_families(served())}

    listed = {metric.name.removesuffix("_total") for metric in METRICS}
    assert {name for name in names if not name.startswith("process_")} == listed
    assert not [name for name in names if name.endswith("_created")]


def test_every_metric_has_help() -> None:
    helps = {family.name: family.documentation for family in text_string_to_metric_families(served())}

    assert [name for name, text in helps.items() if not text] == []
