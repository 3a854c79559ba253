-- A service's shares of the overage of its pools; windows other than the month by their days.
with shared as (
  select p.*, case when t.window_start = m.start_date and t.window_end = m.end_date then ''
    else ' from ' || cast(t.window_start as string) || ' to before '
      || cast(t.window_end as string) end as days
  from pool_part as p
  join pool_priced as t on t.window_start = p.window_start and t.level = p.level
    and t.pool_id = p.pool_id
  cross join settled_period as m
)
select usage_period, level, account_id, service_id, charge_id, pool_id || days as component_id,
  'pool_share' as kind,
  'used ' || cast(used as string) || ' with ' || cast(contribution as string)
    || ' contributed; weight ' || cast(weight as string) || ' of pool ' || pool_id || days
    as detail,
  0 as records, overage_quantity as quantity, amount_minor
from shared
where amount_minor <> 0 or overage_quantity <> 0
