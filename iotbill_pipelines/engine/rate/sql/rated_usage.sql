-- Records that every level of their chain can rate, with the quantity after record increments:
-- 0 stays 0, else initial + whole subsequent steps (RT-12..14). No money here: quantities are
-- summed first, and rounded once.
select a.file_key, a.line_no, a.feed_id, a.usage_month, a.usage_period, a.event_start,
  a.local_date, a.level, a.account_id, a.service_id, a.offer_id, a.charge_id, a.price_id,
  a.usage_class,
  case when a.increment_point = 'session'
       then coalesce(a.feed_id || '/' || a.session_id,
                     cast(a.file_key as varchar) || '/' || cast(a.line_no as varchar))
       else '' end as session_key,
  a.quantity,
  case when a.quantity <= 0 or (a.record_initial = 1 and a.record_subsequent = 1) then a.quantity
       else cast(a.record_initial
              + ceil_div(greatest(a.quantity - a.record_initial, 0), a.record_subsequent)
              * a.record_subsequent as bigint) end as rated_quantity,
  a.pooled, a.flags
from rating_attempt as a
left join suspended_record as x on x.file_key = a.file_key and x.line_no = a.line_no
where a.reason_code is null and x.file_key is null
