-- What a usage charge is made of: its prices, what its pool takes, and what the least or greatest
-- amount adds or takes away.
select c.usage_period, c.level, c.account_id, c.service_id, c.charge_id,
  c.price_id as component_id, 'usage' as kind,
  cast(c.records as varchar) || ' records, ' || cast(c.units as varchar) || ' units at '
    || p.model || ' price ' || c.price_id
    || case when c.allowance_quantity > 0
            then ' after ' || cast(c.allowance_quantity as varchar) || ' free' else '' end
    as detail,
  c.records, c.quantity, c.part_minor as amount_minor
from usage_apportioned as c
join price as p on p.price_id = c.price_id
union all
select u.usage_period, u.level, u.account_id, u.service_id, u.charge_id, 'pooled ' || u.price_id,
  'usage',
  cast(u.records as varchar) || ' records, '
    || cast(u.rated_quantity - u.allowance_quantity as varchar) || ' units from the pool'
    || case when u.allowance_quantity > 0
            then ' after ' || cast(u.allowance_quantity as varchar) || ' free' else '' end,
  u.records, u.quantity, 0
from usage_free as u
where u.pooled
union all
select t.usage_period, t.level, t.account_id, t.service_id, t.charge_id, 'minimum', 'minimum',
  'raised from ' || cast(t.rounded_minor as varchar) || ' to the least amount of '
    || cast(t.minimum_minor as varchar) || ' minor units',
  0, 0, t.raised_minor - t.rounded_minor
from usage_total as t
where t.raised_minor <> t.rounded_minor
union all
select t.usage_period, t.level, t.account_id, t.service_id, t.charge_id, 'maximum', 'maximum',
  'lowered from ' || cast(t.raised_minor as varchar) || ' to the greatest amount of '
    || cast(t.maximum_minor as varchar) || ' minor units',
  0, 0, t.amount_minor - t.raised_minor
from usage_total as t
where t.amount_minor <> t.raised_minor
