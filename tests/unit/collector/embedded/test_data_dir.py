"""Where the embedded engines keep their data."""

import os

from brain_collector.settings import load


def test_the_default_data_directory_is_roots_or_the_users_own() -> None:
    root = os.geteuid() == 0

    assert load({"XDG_DATA_HOME": "/x"}).data_dir == ("/var/lib/brain-events" if root else "/x/brain-events")


def test_a_flag_stands_over_the_environment() -> None:
    assert load({"BRAIN_COLLECTOR_DATA_DIR": "/a"}, data_dir="/b").data_dir == "/b"
    assert load({"BRAIN_COLLECTOR_DATA_DIR": "/a"}).data_dir == "/a"
