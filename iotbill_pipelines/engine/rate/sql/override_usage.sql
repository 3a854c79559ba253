-- Records with the offer that prices them, where it is not the one that the service has.
select g.file_key, g.line_no, g.feed_id, g.usage_month, g.event_start, g.uid_type, g.uid_value,
  g.usage_class, g.quantity, g.mcc, g.mnc, g.region, g.apn, g.peer_number, g.session_id,
  g.vendor_cost, g.vendor_currency, g.flags, g.trait, g.service_id, g.core_state, g.level,
  g.account_id, coalesce(o.price_id, g.offer_id) as offer_id, g.billing_zone, g.local_date,
  g.usage_period, g.band, g.band_no
from guided_usage as g
left join override_interval as o on o.charge_id = g.service_id
  and o.condition_key = g.level || '|' || g.usage_class
  and g.local_date >= o.from_date and g.local_date < o.to_date
