"""Partitions: days on which files are received, months that are closed.

Never files, SIMs or accounts: an asset bears about 100,000 partitions.
"""

import dagster as dg

received_days = dg.DailyPartitionsDefinition(start_date="2020-01-01", timezone="UTC", end_offset=1)
"""The UTC day a file landed; today is among them."""

accounting_months = dg.TimeWindowPartitionsDefinition(
    start="2015-01", fmt="%Y-%m", cron_schedule="0 0 1 * *", timezone="UTC", end_offset=1
)
"""The month a close posts in; the month under way is among them, for a look before its end."""
