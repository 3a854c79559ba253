-- Every unique record at every level of its service's seller chain, with all that was found for
-- it and, where something is missing, the reason. A view: records stream through it.
select u.file_key, u.line_no, u.part_no, u.feed_id, u.usage_month, u.event_start, u.uid_type,
  u.uid_value, u.usage_class, u.quantity, u.part_quantity, u.is_last_part, u.mcc, u.mnc, u.region,
  u.apn, u.peer_number, u.session_id, u.vendor_cost, u.vendor_currency,
  case when l.file_key is null then u.flags else concat_ws(' ', u.flags, 'late') end as flags,
  l.late_days,
  u.service_id, u.level, u.account_id, u.offer_id, u.local_date, u.usage_period,
  r.charge_id, coalesce(k.price_id, r.price_id) as price_id, r.currency, r.counts, r.usage_key, r.record_initial,
  r.record_subsequent,
  -- before activation a service neither fills nor draws from a pool (RULEBOOK §§1, 2)
  r.pooled and coalesce(u.core_state, 'prospect') in ('active', 'suspended') as pooled,
  case when u.service_id is null then 'no_owner'
       when u.core_state = 'cancelled' then 'after_cancel'
       when u.offer_id is null then 'no_offer'
       when r.price_id is null then 'no_rate'
       when r.counts = 'cost' and u.vendor_cost is null then 'no_cost'
       when r.counts = 'cost' and coalesce(u.vendor_currency, r.currency) <> r.currency
       then 'foreign_cost'
       when l.held then 'late' end as reason_code
from timed_usage as u
left join rate_choice as r on r.offer_id = u.offer_id and r.usage_class = u.usage_class
  and r.mcc = coalesce(u.mcc, '') and r.mnc = coalesce(u.mnc, '')
  and r.region = coalesce(u.region, '') and r.trait = u.trait and r.band = u.band
  and u.local_date >= r.from_date and u.local_date < r.to_date
-- a contract's price stands in for the catalog's (RULEBOOK §4: line item > account > catalog)
left join contract_price as k on k.service_id = u.service_id and k.account_id = u.account_id
  and k.replaced_price_id = r.price_id
  and u.local_date >= k.from_date and u.local_date < k.to_date
left join late_arrival as l on l.file_key = u.file_key and l.usage_period = u.usage_period
