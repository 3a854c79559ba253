-- Pooled use after the service's own allowance, under the offer whose pools it draws from: where
-- plans change by cycle, that is the offer held for the whole window.
select u.window_start, u.level, u.account_id, u.service_id,
  coalesce(w.held_offer_id, u.offer_id) as offer_id, c.usage_class,
  wide(u.rated_quantity - u.allowance_quantity) as units
from usage_free as u
join charge as c on c.charge_id = u.charge_id
left join offer_switch as w on w.window_start = u.window_start and w.level = u.level
  and w.account_id = u.account_id and w.service_id = u.service_id and w.offer_id = u.offer_id
where u.pooled
