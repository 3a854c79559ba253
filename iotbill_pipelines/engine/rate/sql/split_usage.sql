-- Durations cut where a time window begins or ends, in elapsed seconds (RULEBOOK §6, RT-18..20). All
-- parts keep the local date of the start: it decides the usage period and the price version.
with cut as (
  select g.*, b.band_no as part_band_no, b.band as part_band, b.to_utc as part_ends,
    seconds_up(g.event_start, b.from_utc) as seconds_before,
    seconds_up(g.event_start, b.to_utc) as seconds_until
  from whole_usage as g
  left join split_charge as c on c.offer_id = g.offer_id and c.usage_class = g.usage_class
    and g.quantity <> 0
  left join band_interval as b
    on b.billing_zone = case when c.offer_id is null then null else g.billing_zone end
    and b.to_utc > g.event_start and seconds_up(g.event_start, b.from_utc) < abs(g.quantity)
)
select file_key, line_no, feed_id, usage_month, event_start, uid_type, uid_value, usage_class,
  quantity, mcc, mnc, region, apn, peer_number, session_id, vendor_cost, vendor_currency, flags,
  trait, service_id, core_state, level, account_id, offer_id, billing_zone, local_date,
  usage_period, coalesce(part_band, band) as band, band_no,
  cast(coalesce(part_band_no - band_no + 1, 1) as integer) as part_no,
  case when part_band_no is null then quantity
       else case when quantity < 0 then -1 else 1 end
         * (least(abs(quantity), seconds_until) - greatest(0, seconds_before)) end as part_quantity,
  coalesce(seconds_until >= abs(quantity), true) as is_last_part
from cut
