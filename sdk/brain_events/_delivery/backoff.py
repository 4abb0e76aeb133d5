"""How long to wait before the next attempt: the number of failures goes in, seconds come out."""

import random


def backoff_s(failures: int, base_s: float, cap_s: float) -> float:
    """Return a random time up to `base_s * 2**failures`, at most `cap_s`.

    Full jitter keeps clients that failed together from returning together:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return random.uniform(0, min(cap_s, base_s * 2 ** min(failures, 32)))  # noqa: S311 -- spreads load, guards nothing
