"""Derived entries: deferrals, releases, contract assets, commissions, true-ups."""

from iotbill_pipelines.storage.migrations.scripts import run_script

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(__file__, "0010_derived_entries.sql")


def downgrade() -> None:
    raise RuntimeError("a ledger is not downgraded: restore the backup made before the upgrade")
