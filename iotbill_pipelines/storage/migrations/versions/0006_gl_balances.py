"""Balances of the general ledger, and what explains differences from them."""

from iotbill_pipelines.storage.migrations.scripts import run_script

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(__file__, "0006_gl_balances.sql")


def downgrade() -> None:
    raise RuntimeError("a ledger is not downgraded: restore the backup made before the upgrade")
