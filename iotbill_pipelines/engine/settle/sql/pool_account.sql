-- First step of the apportioning: the accounts of a pool (SP-16). All-zero weights stay zero here
-- and are split equally.
select usage_period, window_start, level, pool_id, account_id, min(pool_overage) as pool_overage,
  min(pool_minor) as pool_minor, sum(weight) as account_weight
from pool_share
group by usage_period, window_start, level, pool_id, account_id
