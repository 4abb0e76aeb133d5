"""The deep doctor: settings go in, what is wrong with a collector's database comes out. It changes nothing.

Read on in `report` (what is run), `server` (what Postgres promises), `data` (what is stored), and `resources` (what
is left).
"""

from brain_collector.doctor.case import Bounds, Check
from brain_collector.doctor.report import examine, run

__all__ = ["Bounds", "Check", "examine", "run"]
