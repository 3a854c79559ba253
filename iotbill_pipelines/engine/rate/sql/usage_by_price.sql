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
  select r.level, r.account_id, r.service_id, r.offer_id, r.charge_id, r.price_id, r.pooled,
    count(*), sum(r.quantity), sum(r.rated_quantity), sum(r.rated_quantity),
    min(r.event_start), max(r.event_start)
  from rated_usage as r
  join settled_period as p on p.usage_period = r.usage_period
  left join charge as c on c.charge_id = r.charge_id
  where coalesce(c.increment_point, '') <> 'session'
  group by r.level, r.account_id, r.service_id, r.offer_id, r.charge_id, r.price_id, r.pooled
)
select level, account_id, service_id, offer_id, charge_id, price_id, pooled,
  cast(records as bigint) as records, cast(quantity as bigint) as quantity,
  cast(counted as bigint) as counted_quantity, cast(rated as bigint) as session_quantity,
  first_event, last_event
from summed
