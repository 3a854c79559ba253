-- The pools of the period.
select usage_period, window_start, window_end, level, pool_id, share_plan_id,
  pool_account_id as account_id, charge_id, services, available, carried, used, overage_quantity,
  extra_pools, currency, amount_minor
from pool_priced
