"""Parameters of the C allocator (glibc, mallopt(3)), so that the memory of a large request goes back to the system.

By default, each thread that decodes bodies has a heap of its own, and what a heap has grown to is kept.
"""

import asyncio
import ctypes
from contextlib import suppress
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_ARENA_MAX: Final = -8
TRIM_BYTES: Final = 2**20
"""Free memory at the end of the heap, in bytes, beyond which it is returned."""
TRIM_INTERVAL_S: Final = 10.0
"""Interval between two calls of `malloc_trim`, which looks through the whole heap."""


def return_freed_memory() -> None:
    """Use one heap, and return what is free at its end; nothing is done where the C library is another one."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_TRIM_THRESHOLD, TRIM_BYTES)


async def trim() -> None:
    """Return the free memory that lies below memory in use: a large body may leave it there."""
    with suppress(OSError, AttributeError):
        await asyncio.to_thread(ctypes.CDLL(None).malloc_trim, 0)
