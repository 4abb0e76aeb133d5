"""A next release of the collector: this one's files, with further migrations beside them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import brain_collector
from brain_collector.storage import schema_version

REVISION = """
from alembic import op
from brain_collector.storage.online_index import create_index_online

revision = "{revision}"
down_revision = "{down_revision}"
branch_labels = depends_on = None


def upgrade() -> None:
    {upgrade}


def downgrade() -> None:
    {downgrade}
"""

ADD_COLUMN = "op.execute('ALTER TABLE system_events ADD COLUMN tags text[]')"
ADD_INDEX = """create_index_online("idx_tags", "system_events", '(source, "timestamp", id)')"""


class NextRelease:
    """Has two revisions more: a column, and an index made online."""

    COLUMN, INDEX = "9998", "9999"

    def __init__(self, directory: Path) -> None:
        package = directory / "brain_collector"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(Path(brain_collector.__file__).parent, package, ignore=ignored)
        shutil.copytree(schema_version.MIGRATIONS, package / "migrations", ignore=ignored, dirs_exist_ok=True)
        versions = package / "migrations" / "versions"
        before = schema_version.HEAD
        for revision, upgrade, downgrade in (
            (self.COLUMN, ADD_COLUMN, "op.execute('ALTER TABLE system_events DROP COLUMN tags')"),
            (self.INDEX, ADD_INDEX, "op.execute('DROP INDEX idx_tags')"),
        ):
            text = REVISION.format(revision=revision, down_revision=before, upgrade=upgrade, downgrade=downgrade)
            (versions / f"{revision}.py").write_text(text)
            before = revision
        self.environ = {"PYTHONPATH": os.pathsep.join([str(directory), os.environ.get("PYTHONPATH", "")])}

    def migrate(self, dsn: str, *arguments: str) -> "subprocess.Popen[str]":
        """Start its `brain-events migrate`."""
        return subprocess.Popen(
            [sys.executable, "-m", "brain_collector", "migrate", *arguments, "--database-url", dsn],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **self.environ},
        )
