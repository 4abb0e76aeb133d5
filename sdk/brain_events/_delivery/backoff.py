"""Compute how long to wait before the next attempt."""

import random


def backoff_s(failures: int, base_s: float, cap_s: float) -> float:
    """Return a random number of seconds up to `base_s * 2**failures`, at most `cap_s`.

    Full jitter keeps clients that failed at the same time from retrying at the same time:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return random.uniform(0, min(cap_s, base_s * 2 ** min(failures, 32)))  # noqa: S311 -- spreads load, protects no secret
