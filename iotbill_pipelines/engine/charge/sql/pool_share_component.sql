-- A service's shares of the overage of its pools.
select usage_period, level, account_id, service_id, charge_id, pool_id as component_id,
  'pool_share' as kind,
  'used ' || cast(used as varchar) || ' with ' || cast(contribution as varchar)
    || ' contributed; weight ' || cast(weight as varchar) || ' of pool ' || pool_id as detail,
  0 as records, overage_quantity as quantity, amount_minor
from pool_part
where amount_minor <> 0 or overage_quantity <> 0
