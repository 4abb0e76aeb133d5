"""The deep doctor: examines a collector's database and cache read-only, and reports what is wrong and what to do.

`report` runs the checks: `postgres` (settings and standbys), `session` (time-outs and poolers), `epochs` (failover),
`data` (counts, partitions, indexes, jobs), `capacity` (connections, locks, disk, cache).
May import every wing below `server`, and the drivers. Must not change anything.
"""

from brain_collector.doctor.check import Bounds, Check
from brain_collector.doctor.report import examine, run

__all__ = ["Bounds", "Check", "examine", "run"]
