"""The check of the epochs: which server the database is, and whether the collectors have noticed."""

from typing import Final

from brain_collector.doctor.check import Check, Examination
from brain_collector.storage.epochs import CURRENT

_STATE: Final = f"""
    SELECT present.identifier, present.timeline, last.epoch, last.at, {CURRENT} AS current,
        (SELECT count(*) FROM epochs) AS n, quote_ident(current_user) AS role
    FROM database_identity() AS present, (SELECT epoch, at FROM epochs ORDER BY epoch DESC LIMIT 1) AS last
"""  # noqa: S608 - a constant


async def epoch(examination: Examination) -> list[Check]:
    """Report the identity of the server, and since when it has been the database."""
    row = await examination.connection.fetchrow(_STATE)
    if row is None:
        return [Check("epoch", "problem", "the table epochs is empty", "run `brain-events migrate`")]
    timeline = "a standby's" if row["timeline"] is None else row["timeline"]
    identity = f"system identifier {row['identifier']}, timeline {timeline}"
    if row["current"] is None:
        advice = "a restart, a failover or a restore that no collector has noticed yet: start one, or see its log"
        return [Check("epoch", "warning", f"{identity}; its epoch has not begun", advice)]
    if 0 in (row["identifier"], row["timeline"]):
        advice = (
            "ids and streams are safe, but a restore may be recorded as a failover or a restart: if the provider "
            f"allows it, run GRANT EXECUTE ON FUNCTION pg_control_system(), pg_walfile_name(pg_lsn) TO {row['role']}"
        )
        return [Check("epoch", "warning", f"{identity}: the role may not read the one that is 0", advice)]
    since = f"{row['at']:%Y-%m-%dT%H:%M:%SZ}"
    return [Check("epoch", "ok", f"{identity}; epoch {row['epoch']} since {since}, {row['n']} in all")]
