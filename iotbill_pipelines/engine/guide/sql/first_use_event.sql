-- Usage of waiting services in order of time, with what each class has reached; records alike in
-- time, class and quantity are interchangeable.
select w.service_id, w.level, w.added_date, r.file_key, r.line_no, r.part_no, r.local_date,
  r.quantity, t.threshold_quantity, c.pooled,
  sum(r.quantity) over (
    partition by w.service_id, w.level, w.added_date, r.usage_class
    order by r.event_start asc nulls last, r.quantity asc nulls last, r.file_key asc nulls last,
      r.line_no asc nulls last, r.part_no asc nulls last
    rows between unbounded preceding and current row) as reached,
  row_number() over (
    partition by w.service_id, w.level, w.added_date
    order by r.event_start asc nulls last, r.usage_class asc nulls last, r.quantity asc nulls last,
      r.file_key asc nulls last, r.line_no asc nulls last, r.part_no asc nulls last) as event_no
from first_use_wait as w
join rated_usage as r on r.service_id = w.service_id and r.level = w.level
  and r.local_date >= w.added_date and r.local_date < w.until_date
join charge as c on c.charge_id = r.charge_id
left join first_use_threshold as t on t.offer_id = w.offer_id and t.usage_class = r.usage_class
