-- Usage of each window per service, charge and price. Sessions are rounded once each, the units that
-- rounding adds go to the price of the session's last record. A peak is the greatest record, at its
-- price; of different values each counts once, at the price of its first record. Where a charge
-- takes the services of an account together, they are one, ''.
with by_session as (
  select r.window_start, r.window_end, r.level, r.account_id, r.service_id, r.offer_id, r.charge_id,
    r.price_id, r.pooled, r.session_key, c.increment_initial, c.increment_subsequent,
    sum(case when r.part_no = 1 then 1 else 0 end) as records,
    sum(r.quantity) as quantity, sum(r.rated_quantity) as counted,
    min(r.event_start) as first_event, max(r.event_start) as last_event
  from period_usage as r
  join charge as c on c.charge_id = r.charge_id
  where c.increment_point = 'session'
  group by r.window_start, r.window_end, r.level, r.account_id, r.service_id, r.offer_id,
    r.charge_id, r.price_id, r.pooled, r.session_key, c.increment_initial, c.increment_subsequent
),
session_total as (
  select *,
    sum(counted) over (
      partition by window_start, level, account_id, service_id, charge_id, session_key) as session_counted,
    row_number() over (
      partition by window_start, level, account_id, service_id, charge_id, session_key
      order by last_event desc nulls last, price_id desc nulls last, pooled desc nulls last)
      as from_last
  from by_session
),
-- a price belongs to one charge and offer: grouping by it alone is half the work
by_price as (
  select g.*, c.offer_id, c.charge_id, c.increment_point, c.aggregation
  from (
    select r.window_start, r.window_end, r.level, r.account_id, r.service_id, r.price_id,
      r.pooled,
      sum(case when r.part_no = 1 then 1 else 0 end) as records,
      sum(r.quantity) as quantity, sum(r.rated_quantity) as counted,
      max(r.rated_quantity) as greatest_quantity,
      min(r.event_start) as first_event, max(r.event_start) as last_event
    from period_usage as r
    group by r.window_start, r.window_end, r.level, r.account_id, r.service_id, r.price_id,
      r.pooled
  ) as g
  join price as i on i.price_id = g.price_id
  join charge as c on c.charge_id = i.charge_id
),
peak as (
  select b.window_start, b.level, b.account_id, b.service_id, b.price_id,
    row_number() over (
      partition by b.window_start, b.level, b.account_id,
        case when c.scope = 'account' then '' else b.service_id end, b.charge_id
      order by b.greatest_quantity desc nulls last, b.first_event asc nulls last,
        b.price_id asc nulls last, b.service_id asc nulls last) as place
  from by_price as b
  join charge as c on c.charge_id = b.charge_id
  where b.aggregation = 'peak'
),
first_of_value as (
  select r.window_start, r.level, r.account_id, r.service_id, r.price_id,
    row_number() over (
      partition by r.window_start, r.level, r.account_id,
        case when c.scope = 'account' then '' else r.service_id end, r.charge_id, r.session_key
      order by r.event_start asc nulls last, r.price_id asc nulls last,
        r.service_id asc nulls last) as place
  from period_usage as r
  join charge as c on c.charge_id = r.charge_id and c.aggregation = 'distinct'
  where r.session_key <> ''
),
value_count as (
  select window_start, level, account_id, service_id, price_id, count(*) as different
  from first_of_value
  where place = 1
  group by window_start, level, account_id, service_id, price_id
),
summed as (
  select window_start, window_end, level, account_id, service_id, offer_id, charge_id, price_id,
    pooled, sum(records) as records, sum(quantity) as quantity, sum(counted) as counted,
    sum(counted + case when from_last = 1 and session_counted <> 0
      then case when session_counted < 0 then -1 else 1 end * (wide(increment_initial)
        + ceil_div(greatest(abs(session_counted) - increment_initial, 0), increment_subsequent)
        * increment_subsequent) - session_counted
      else wide(0) end) as rated,
    min(first_event) as first_event, max(last_event) as last_event
  from session_total
  group by window_start, window_end, level, account_id, service_id, offer_id, charge_id, price_id,
    pooled
  union all
  select window_start, window_end, level, account_id, service_id, offer_id, charge_id, price_id,
    pooled, records, quantity,
    counted, counted, first_event, last_event
  from by_price
  where increment_point <> 'session' and aggregation = 'sum'
  union all
  select b.window_start, b.window_end, b.level, b.account_id, b.service_id, b.offer_id, b.charge_id,
    b.price_id, b.pooled, b.records, b.quantity,
    case when k.place = 1 then b.greatest_quantity else 0 end,
    case when k.place = 1 then b.greatest_quantity else 0 end, b.first_event, b.last_event
  from by_price as b
  join peak as k on k.window_start = b.window_start and k.level = b.level and k.account_id = b.account_id
    and k.service_id = b.service_id and k.price_id = b.price_id
  union all
  select b.window_start, b.window_end, b.level, b.account_id, b.service_id, b.offer_id, b.charge_id,
    b.price_id, b.pooled, b.records, b.quantity, coalesce(v.different, 0), coalesce(v.different, 0), b.first_event,
    b.last_event
  from by_price as b
  left join value_count as v on v.window_start = b.window_start and v.level = b.level and v.account_id = b.account_id
    and v.service_id = b.service_id and v.price_id = b.price_id
  where b.aggregation = 'distinct'
)
select s.window_start, s.window_end, s.level, s.account_id, case when c.scope = 'account' then '' else s.service_id end
    as service_id, s.offer_id, s.charge_id, s.price_id, s.pooled,
  cast(sum(s.records) as bigint) as records, cast(sum(s.quantity) as bigint) as quantity,
  cast(sum(s.counted) as bigint) as counted_quantity,
  cast(sum(s.rated) as bigint) as session_quantity,
  min(s.first_event) as first_event, max(s.last_event) as last_event
from summed as s
join charge as c on c.charge_id = s.charge_id
group by s.window_start, s.window_end, s.level, s.account_id,
  case when c.scope = 'account' then '' else s.service_id end,
  s.offer_id, s.charge_id, s.price_id, s.pooled
