"""Background jobs: the scheduler, the loop that runs a job, and one file per job.

One collector at a time does a job, `kill -9` at any point is safe, and an unavailable database only postpones it.
May import every wing below it. Must not know HTTP; no request waits for a job.
"""
