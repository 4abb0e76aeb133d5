"""Worker processes: call init once in the parent, log in every child. Sends `jobs_started`, `job_done`, `jobs_done`.

BRAIN_EVENTS_URL=http://127.0.0.1:8001 python examples/worker.py
"""

import multiprocessing
import os

import brain_events
from brain_events import bound, log_system_event


def work(job: int) -> int:
    """Do one job in a child process, whose events are delivered before it ends."""
    with bound(pid=os.getpid()):
        log_system_event("job_done", "info", f"job {job} is done", {"job": job})
    return job * job


if __name__ == "__main__":
    brain_events.init(source="example-worker")
    log_system_event("jobs_started", "info", "four jobs for two children")

    with multiprocessing.get_context("fork").Pool(2) as pool:
        results = pool.map(work, range(4))
        pool.close()  # wait for the children to end: `terminate` would leave them no time to deliver
        pool.join()

    log_system_event("jobs_done", "info", "all jobs are done", {"results": results})
