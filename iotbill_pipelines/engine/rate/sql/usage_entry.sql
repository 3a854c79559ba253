-- The units of each window one by one, for whatever is drawn down in order of event time: every
-- record, then at the end of the window what sessions and periods were rounded up by.
select r.window_start, r.level, r.account_id, case when c.scope = 'account' then '' else r.service_id end
    as service_id, r.offer_id, r.charge_id, r.price_id, r.pooled, r.event_start,
  r.local_date, r.rated_quantity as quantity
from period_usage as r
join charge as c on c.charge_id = r.charge_id and c.aggregation = 'sum'
union all
select window_start, level, account_id, service_id, offer_id, charge_id, price_id, pooled,
  timestamp '9999-12-31 00:00:00', days_later(window_end, -1), rated_quantity - counted_quantity
from usage_rounded
where rated_quantity <> counted_quantity
