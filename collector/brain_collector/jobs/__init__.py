"""Background work: the scheduler, its loop, and one file a job.

One collector at a time does a job, `kill -9` at any point is safe, and a lost database only postpones it.
May import every wing below it. Must not know HTTP, nor be waited for by a request.
"""
