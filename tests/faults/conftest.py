"""The faults' fixtures are those of the end-to-end tests."""

from tests.e2e.conftest import _own_spool, collector

__all__ = ["_own_spool", "collector"]
