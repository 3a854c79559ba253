-- Prices of a usage charge as children of its rounded amount.
select s.usage_period, s.window_start, s.window_end, s.level, s.account_id, s.service_id, s.charge_id, s.price_id, s.records,
  s.quantity, s.units, s.allowance_quantity, s.exact_e12, t.rounded_minor
from usage_priced as s
join usage_total as t on t.window_start = s.window_start and t.level = s.level and t.account_id = s.account_id
  and t.service_id = s.service_id and t.charge_id = s.charge_id
