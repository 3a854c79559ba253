-- Segments as children of their rounded recurring amount.
select w.usage_period, w.window_start, w.window_end, w.basis, w.months, w.level, w.account_id,
  w.service_id, w.charge_id, w.price_id, w.state, w.from_date, w.to_date, w.segment_days,
  w.share_days, w.whole_days, cast(w.from_date as string) || ' ' || w.price_id as segment_key,
  wide(w.period_e12) * w.share_days as exact_e12, t.amount_minor as charge_minor
from recurring_weighed as w
join recurring_total as t on t.usage_period = w.usage_period and t.window_start = w.window_start
  and t.level = w.level and t.account_id = w.account_id and t.service_id = w.service_id
  and t.charge_id = w.charge_id
