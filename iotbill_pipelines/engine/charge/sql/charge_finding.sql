-- Reference data that contradicts itself or lacks what a charge needs (RULEBOOK §1).
select t.usage_period, 'undeclared_transition' as code, t.service_id,
  t.from_state || '>' || t.to_state || ' ' || cast(t.changed_at as string) as subject,
  'service ' || t.service_id || ' changed from ' || t.from_state || ' to ' || t.to_state || ' on '
    || cast(t.local_date as string) || ', which the catalog does not allow; correct the inventory '
    || 'or declare the transition' as message
from service_transition as t
left join state_transition as d on d.from_state = t.from_state and d.to_state = t.to_state
where d.from_state is null
union all
select t.usage_period, 'unknown_state', t.service_id,
  t.to_state || ' ' || cast(t.changed_at as string),
  'service ' || t.service_id || ' has the state ' || t.to_state || ', which the catalog does not '
    || 'know; correct the inventory or define the state'
from service_transition as t
left join state as s on s.state = t.to_state
where s.state is null
union all
-- active on days when a charge that has prices for the state has none in force
select g.usage_period, 'no_recurring_price', g.service_id, g.charge_id,
  'charge ' || g.charge_id || ' prices only ' || cast(g.priced_days as string) || ' of '
    || cast(g.active_days as string) || ' active days of service ' || g.service_id
    || '; close the gap between its prices'
from (
  select p.usage_period, i.level, i.service_id, c.charge_id,
    sum(days_between(greatest(i.from_date, t.from_date, p.start_date),
                     least(i.to_date, t.to_date, p.end_date))) as active_days,
    coalesce(min(b.priced_days), 0) as priced_days
  from settled_period as p
  join recurring_offer as i on i.from_date < p.end_date and i.to_date > p.start_date
  join charge as c on c.charge_id = i.charge_id
  join service_state_interval as t on t.service_id = i.service_id and t.core_state = 'active'
    and greatest(i.from_date, t.from_date, p.start_date) < least(i.to_date, t.to_date, p.end_date)
  join (
    select distinct charge_id, condition_key from price_interval
  ) as k on k.charge_id = c.charge_id and k.condition_key = t.state
  left join (
    select q.usage_period, s.level, s.service_id, s.charge_id,
      sum(days_between(greatest(s.from_date, q.start_date), least(s.to_date, q.end_date)))
        as priced_days
    from recurring_span as s
    join settled_period as q on s.from_date < q.end_date and s.to_date > q.start_date
    where s.core_state = 'active'
    group by q.usage_period, s.level, s.service_id, s.charge_id
  ) as b on b.usage_period = p.usage_period and b.level = i.level and b.service_id = i.service_id
    and b.charge_id = c.charge_id
  group by p.usage_period, i.level, i.service_id, c.charge_id
) as g
where g.priced_days < g.active_days
union all
select d.usage_period, 'no_transition_price', d.service_id,
  d.charge_id || ' ' || cast(d.changed_at as string),
  'charge ' || d.charge_id || ' has no price on ' || cast(d.local_date as string)
    || ' for service ' || d.service_id || '; extend its prices'
from transition_due as d
where d.price_id is null
union all
select p.usage_period, 'no_overage_price', cast(null as string),
  p.level || ' ' || p.pool_id || ' ' || cast(p.window_end as string),
  'pool ' || p.pool_id || ' exceeds its size by ' || cast(p.overage_quantity as string)
    || ' units, and charge ' || p.charge_id || ' has no price on the day before '
    || cast(p.window_end as string) || '; extend its prices'
from pool_priced as p
where p.overage_quantity > 0 and p.price_id is null
union all
-- active on days of which nothing can be billed: by what, or to whom, is not known
select distinct g.usage_period,
  case when o.offer_id is null then 'unknown_offer' else 'unknown_account' end,
  g.service_id, g.level || ' ' || g.offer_id || ' ' || g.account_id,
  case when o.offer_id is null
       then 'service ' || g.service_id || ' is active on the ' || g.level || ' offer ' || g.offer_id
         || ', which the catalog does not know; correct its contract or define the offer'
       else 'service ' || g.service_id || ' is active, and its ' || g.level || ' offer is paid by '
         || 'account ' || g.account_id || ', which is not known; send the account or correct the '
         || 'contract' end
from (
  select p.usage_period, i.service_id, i.level, i.offer_id, i.account_id
  from settled_period as p
  join service_offer_interval as i on i.from_date < p.end_date and i.to_date > p.start_date
  join service_state_interval as t on t.service_id = i.service_id and t.core_state = 'active'
    and greatest(i.from_date, t.from_date, p.start_date) < least(i.to_date, t.to_date, p.end_date)
) as g
left join offer as o on o.offer_id = g.offer_id
left join account as a on a.account_id = g.account_id
where o.offer_id is null or a.account_id is null
