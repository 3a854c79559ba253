-- What a usage charge is made of: its prices, what its pool takes, and what the least or greatest
-- amount adds or takes away. Windows other than the month are told apart by their days.
with whole_month as (
  select usage_period, start_date as window_start, end_date as window_end, '' as days
  from settled_period
),
priced as (
  select c.*, coalesce(m.days, ' from ' || cast(c.window_start as string) || ' to before '
      || cast(c.window_end as string)) as days
  from usage_apportioned as c
  left join whole_month as m on m.window_start = c.window_start and m.window_end = c.window_end
),
pooled as (
  select u.*, coalesce(m.days, ' from ' || cast(u.window_start as string) || ' to before '
      || cast(u.window_end as string)) as days
  from usage_free as u
  left join whole_month as m on m.window_start = u.window_start and m.window_end = u.window_end
  where u.pooled
),
total as (
  select t.*, coalesce(m.days, ' from ' || cast(t.window_start as string) || ' to before '
      || cast(t.window_end as string)) as days
  from usage_total as t
  left join whole_month as m on m.window_start = t.window_start and m.window_end = t.window_end
)
select c.usage_period, c.level, c.account_id, c.service_id, c.charge_id,
  c.price_id || c.days as component_id, 'usage' as kind,
  cast(c.records as string) || ' records, ' || cast(c.units as string) || ' units at '
    || p.model || ' price ' || c.price_id
    || case when c.allowance_quantity > 0
            then ' after ' || cast(c.allowance_quantity as string) || ' free' else '' end
    || c.days as detail,
  c.records, c.quantity, c.part_minor as amount_minor
from priced as c
join price as p on p.price_id = c.price_id
union all
select u.usage_period, u.level, u.account_id, u.service_id, u.charge_id,
  'pooled ' || u.price_id || u.days, 'usage',
  cast(u.records as string) || ' records, '
    || cast(u.rated_quantity - u.allowance_quantity as string) || ' units from the pool'
    || case when u.allowance_quantity > 0
            then ' after ' || cast(u.allowance_quantity as string) || ' free' else '' end
    || u.days,
  u.records, u.quantity, 0
from pooled as u
union all
select t.usage_period, t.level, t.account_id, t.service_id, t.charge_id, 'minimum' || t.days,
  'minimum',
  'raised from ' || cast(t.rounded_minor as string) || ' to the least amount of '
    || cast(t.minimum_minor as string) || ' minor units' || t.days,
  0, 0, t.raised_minor - t.rounded_minor
from total as t
where t.raised_minor <> t.rounded_minor
union all
select t.usage_period, t.level, t.account_id, t.service_id, t.charge_id, 'maximum' || t.days,
  'maximum',
  'lowered from ' || cast(t.raised_minor as string) || ' to the greatest amount of '
    || cast(t.maximum_minor as string) || ' minor units' || t.days,
  0, 0, t.amount_minor - t.raised_minor
from total as t
where t.amount_minor <> t.raised_minor
