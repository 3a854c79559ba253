-- Records that every level of their chain can rate, with the quantity after record increments:
-- 0 stays 0, else initial + whole subsequent steps (RT-12..14); a credit mirrors the charge, so that
-- it cancels exactly (RULEBOOK §0.1). Of a duration that is split the
-- whole is rounded once, what that adds goes to the last part (RT-19). No money here: quantities
-- are summed first, and rounded once.
select a.file_key, a.line_no, a.part_no, a.feed_id, a.usage_month, a.usage_period, a.event_start,
  a.local_date, a.level, a.account_id, a.service_id, a.offer_id, a.charge_id, a.price_id,
  a.usage_class,
  case when a.usage_key is null then ''
       when a.usage_key = 'session'
       then coalesce(a.feed_id || '/' || a.session_id,
                     cast(a.file_key as string) || '/' || cast(a.line_no as string))
       when a.usage_key = 'network' then coalesce(a.mcc, '') || coalesce('-' || a.mnc, '')
       when a.usage_key = 'country' then coalesce(a.mcc, '')
       when a.usage_key = 'apn' then coalesce(a.apn, '')
       when a.usage_key = 'peer_number' then coalesce(a.peer_number, '')
       when a.usage_key = 'identifier' then a.uid_type || ':' || a.uid_value
       when a.usage_key = 'day' then cast(a.local_date as string)
       else a.service_id end as session_key,
  a.part_quantity as quantity,
  case when a.counts = 'cost' then cast(as_e12(a.vendor_cost) as bigint)
       when a.counts = 'events' then case when a.quantity < 0 then -1 else 1 end
       when a.quantity = 0 or not a.is_last_part
         or (a.record_initial = 1 and a.record_subsequent = 1) then a.part_quantity
       else cast(a.part_quantity - a.quantity
              + case when a.quantity < 0 then -1 else 1 end * (a.record_initial
              + ceil_div(greatest(abs(a.quantity) - a.record_initial, 0), a.record_subsequent)
              * a.record_subsequent) as bigint) end as rated_quantity,
  a.pooled, a.flags
from rating_attempt as a
left join suspended_record as x on x.file_key = a.file_key and x.line_no = a.line_no
where a.reason_code is null and x.file_key is null
