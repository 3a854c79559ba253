-- Before the apportioning: what each pool is, on the account that it belongs to.
select window_start, level, pool_id, pool_account_id as account_id, '' as above_id,
  amount_minor as carried_minor, overage_quantity as carried_overage
from pool_priced
