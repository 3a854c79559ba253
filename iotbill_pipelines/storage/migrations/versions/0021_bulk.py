"""Guards of charges, invoice lines and journal links once a statement, not once a row."""

from iotbill_pipelines.storage.migrations.scripts import run_script

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(__file__, "0021_bulk.sql")


def downgrade() -> None:
    raise RuntimeError("a ledger is not downgraded: restore the backup made before the upgrade")
