"""Cache encoded responses: a scope and a key in, bytes out, from the cache or from `fill`.

A failure of the cache is never an error for the caller.

A generation is a random token. A value is stored under the token that was read *before* the value was computed, so a
new token makes every older value unreachable at once, including those that are being computed. (A counter instead of a
random token would serve old values again after a FLUSHALL or an eviction.)

May import the shared files, `addresses` and redis. Must not know what the bytes mean.
"""

from brain_collector.cache.memory import MemoryCache
from brain_collector.cache.protocol import Cache, CacheScope
from brain_collector.cache.redis import PATIENCE_S, RedisCache
from brain_collector.metrics import Metrics

__all__ = ["Cache", "CacheScope", "MemoryCache", "RedisCache", "open_cache"]


def open_cache(redis_url: str | None, metrics: Metrics, *, patience_s: float = PATIENCE_S) -> Cache:
    """Return a cache in Redis, or one in this process, which is correct for a single collector only.

    Connects to nothing yet.

    Raises:
        SettingsError: the URL is malformed.
    """
    if redis_url is None:
        return MemoryCache(metrics)
    return RedisCache(redis_url, metrics, patience_s=patience_s)
