-- Rated usage of the period as it is billed: free records count nothing.
select r.file_key, r.line_no, r.part_no, r.local_date, r.event_start, r.level, r.account_id,
  r.service_id, r.charge_id, r.offer_id, r.price_id, r.pooled, r.session_key, r.quantity,
  case when f.file_key is null then r.rated_quantity else 0 end as rated_quantity,
  f.file_key is null and r.part_no = 1 and r.quantity > 0 as connects
from rated_usage as r
join settled_period as p on p.usage_period = r.usage_period
left join free_event as f on f.file_key = r.file_key and f.line_no = r.line_no
  and f.level = r.level
