-- Rated usage of the windows as it is billed: free records count nothing, nor does what a service
-- uses before it is active by first use. Nothing draws from a pool that was not yet sold.
select r.window_start, r.window_end, r.file_key, r.line_no, r.part_no, r.local_date, r.event_start, r.level, r.account_id,
  r.service_id, r.charge_id, r.offer_id, r.price_id, coalesce(u.pooled, r.pooled)
    and (k.charge_id is null or r.local_date >= k.opens_on) as pooled,
  r.session_key, r.quantity,
  case when f.file_key is not null or u.billed_quantity = 0 then 0
       when u.file_key is null then r.rated_quantity
       else greatest(0, r.rated_quantity - (r.quantity - u.billed_quantity)) end as rated_quantity,
  case when f.file_key is not null or r.part_no > 1 or r.quantity = 0 or u.billed_quantity = 0
       then 0 when r.quantity < 0 then -1 else 1 end as connections
from windowed_usage as r
left join free_event as f on f.file_key = r.file_key and f.line_no = r.line_no
  and f.level = r.level
left join first_use_row as u on u.file_key = r.file_key and u.line_no = r.line_no
  and u.part_no = r.part_no and u.level = r.level
left join share_closed as k on k.window_start = r.window_start and k.level = r.level
  and k.account_id = r.account_id and k.charge_id = r.charge_id
