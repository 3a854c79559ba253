"""Claims against vendors: their steps, and the credits that answer them."""

from iotbill_pipelines.storage.migrations.scripts import run_script

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(__file__, "0009_disputes.sql")


def downgrade() -> None:
    raise RuntimeError("a ledger is not downgraded: restore the backup made before the upgrade")
