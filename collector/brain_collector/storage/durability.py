"""Durability of acknowledged writes: their COMMIT waits for the disk, whatever the default of the server is.

The setting is made inside the transaction. A session's setting would not do: behind a pooler, each transaction may run
on another server connection.
"""

from typing import Final

DURABLE: Final = """(
    SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit')
        WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true)
) IS NOT NULL"""
"""A condition that is always true; it makes the COMMIT of its transaction wait until the transaction is on disk.

Add it to the WHERE of the first statement of each transaction that is acknowledged: this needs no round trip. Postgres
evaluates it once, before the first row, even if there is no row; a CTE that nothing refers to would not be evaluated.
`on` waits for this server and its synchronous standbys; `remote_apply`, the only stricter value, is left unchanged.
"""
