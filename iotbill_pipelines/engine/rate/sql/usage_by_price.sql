-- Usage of the period summed per service, charge and price; sessions are rounded once each, the
-- units that rounding adds go to the price of the session's last record.
with by_session as (
  select r.level, r.account_id, r.service_id, r.offer_id, r.charge_id, r.price_id, r.pooled,
    r.session_key, c.increment_initial, c.increment_subsequent,
    count(*) as records, sum(r.quantity) as quantity, sum(r.rated_quantity) as counted,
    min(r.event_start) as first_event, max(r.event_start) as last_event
  from rated_usage as r
  join settled_period as p on p.usage_period = r.usage_period
  join charge as c on c.charge_id = r.charge_id
  where c.increment_point = 'session'
  group by r.level, r.account_id, r.service_id, r.offer_id, r.charge_id, r.price_id, r.pooled,
    r.session_key, c.increment_initial, c.increment_subsequent
),
session_total as (
  select *,
    sum(counted) over (
      partition by level, account_id, service_id, charge_id, session_key) as session_counted,
    row_number() over (
      partition by level, account_id, service_id, charge_id, session_key
      order by last_event desc nulls last, price_id desc nulls last, pooled desc nulls last)
      as from_last
  from by_session
),
summed as (
  select level, account_id, service_id, offer_id, charge_id, price_id, pooled,
    sum(records) as records, sum(quantity) as quantity, sum(counted) as counted,
    sum(counted + case when from_last = 1 and session_counted > 0
      then wide(increment_initial)
        + ceil_div(greatest(session_counted - increment_initial, 0), increment_subsequent)
        * increment_subsequent - session_counted
      else wide(0) end) as rated,
    min(first_event) as first_event, max(last_event) as last_event
  from session_total
  group by level, account_id, service_id, offer_id, charge_id, price_id, pooled
  union all
  -- a price belongs to one charge and offer: grouping by it alone is half the work
  select g.level, g.account_id, g.service_id, c.offer_id, c.charge_id, g.price_id, g.pooled,
    g.records, g.quantity, g.counted, g.counted, g.first_event, g.last_event
  from (
    select r.level, r.account_id, r.service_id, r.price_id, r.pooled, count(*) as records,
      sum(r.quantity) as quantity, sum(r.rated_quantity) as counted,
      min(r.event_start) as first_event, max(r.event_start) as last_event
    from rated_usage as r
    join settled_period as p on p.usage_period = r.usage_period
    group by r.level, r.account_id, r.service_id, r.price_id, r.pooled
  ) as g
  join price as i on i.price_id = g.price_id
  join charge as c on c.charge_id = i.charge_id
  where c.increment_point <> 'session'
)
select level, account_id, service_id, offer_id, charge_id, price_id, pooled,
  cast(records as bigint) as records, cast(quantity as bigint) as quantity,
  cast(counted as bigint) as counted_quantity, cast(rated as bigint) as session_quantity,
  first_event, last_event
from summed
