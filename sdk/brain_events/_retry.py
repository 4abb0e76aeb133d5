"""How long to wait before the next attempt: the number of failures and a Retry-After header go in, seconds come out."""

import random
import time
from email.utils import parsedate_to_datetime

RETRY_AFTER_CAP_S = 3600.0
"""The longest that a server can make us wait: a slip of its clock must not silence us for days."""


def backoff_s(failures: int, base_s: float, cap_s: float) -> float:
    """Return a random time up to `base_s * 2**failures`, at most `cap_s`.

    Full jitter keeps clients that failed together from returning together:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return random.uniform(0, min(cap_s, base_s * 2 ** min(failures, 32)))  # noqa: S311 -- spreads load, guards nothing


def retry_after_s(header: str | None) -> float:
    """Return the seconds that a Retry-After header asks for (RFC 9110, section 10.2.3); 0 for none or nonsense."""
    if header is None:
        return 0.0
    try:
        seconds = (
            float(header) if header.strip().isdecimal() else parsedate_to_datetime(header).timestamp() - time.time()
        )
    except (ValueError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), RETRY_AFTER_CAP_S)
