"""What each product carries of vendors' cost."""

from iotbill_pipelines.storage.migrations.scripts import run_script

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(__file__, "0022_product_cost.sql")


def downgrade() -> None:
    raise RuntimeError("a ledger is not downgraded: restore the backup made before the upgrade")
