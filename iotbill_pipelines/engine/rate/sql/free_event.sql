-- The first records of a service and charge that an allowance of records makes free, in order of
-- event time; records alike in time, price and quantity are interchangeable.
with numbered as (
  select r.file_key, r.line_no, r.level, c.allowance_events,
    row_number() over (
      partition by r.window_start, r.level, r.account_id,
        case when c.scope = 'account' then '' else r.service_id end,
        r.charge_id
      order by r.event_start asc nulls last, r.price_id asc nulls last, r.quantity asc nulls last,
        r.file_key asc nulls last, r.line_no asc nulls last) as event_no
  from windowed_usage as r
  join charge as c on c.charge_id = r.charge_id and c.allowance_events > 0
  where r.part_no = 1
)
select file_key, line_no, level from numbered where event_no <= allowance_events
