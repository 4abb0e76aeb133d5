"""Which background jobs of this collector fail, since when and why; each change is logged once."""

import logging
from datetime import UTC, datetime
from typing import Final

from brain_collector.metrics import JOB_FAILURES, Metrics
from brain_collector.schema import FailingJob

logger: Final = logging.getLogger(__name__)


class JobStates:
    """The jobs whose last run failed."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._failing: dict[str, FailingJob] = {}

    @property
    def failing(self) -> list[FailingJob]:
        """The jobs that fail, by name."""
        return [self._failing[name] for name in sorted(self._failing)]

    def failed(self, job: str, reason: str, unforeseen: Exception | None = None) -> None:
        """Note a failed run; an error that was not foreseen is logged with its traceback."""
        self._metrics.add(JOB_FAILURES, job)
        before = self._failing.get(job)
        since = datetime.now(UTC) if before is None else before.since
        self._failing[job] = FailingJob(job, since, 1 if before is None else before.failures + 1, reason)
        if before is None:
            level = logging.ERROR if unforeseen else logging.WARNING
            logger.log(level, "the job %r fails and will be tried again: %s", job, reason, exc_info=unforeseen)

    def worked(self, job: str) -> None:
        """Note a run without an error."""
        before = self._failing.pop(job, None)
        if before is not None:
            logger.warning("the job %r works again, after %d failures: %s", job, before.failures, before.reason)
