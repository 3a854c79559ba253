-- Combined charges as the ledger should hold them: the windows of a period together.
select t.usage_period, t.usage_period as billing_period, t.level, a.entity_id, t.account_id,
  t.service_id, t.charge_id, min(t.product_id) as product_id, 'usage' as kind, false as linear,
  0 as records, sum(t.units) as quantity, min(t.currency) as currency,
  sum(t.amount_minor) as amount_minor,
  coalesce(joined(array_agg(distinct t.price_id), 0, ' '), '') as price_ids,
  min(t.window_start) as window_start, max(t.window_end) as window_end
from combined_total as t
join account as a on a.account_id = t.account_id
group by t.usage_period, t.level, a.entity_id, t.account_id, t.service_id, t.charge_id
