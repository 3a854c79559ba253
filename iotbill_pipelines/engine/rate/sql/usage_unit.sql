-- What prices count by itself: each day, session or record; alike ones are one row that repeats.
with single as (
  select r.window_start, r.level, r.account_id, case when c.scope = 'account' then '' else r.service_id end
      as service_id, r.price_id, p.counted, p.connect_per,
    case p.counted
      when 'day' then cast(r.local_date as string)
      when 'session' then r.session_key
      else cast(r.file_key as string) || '/' || cast(r.line_no as string) || '/'
        || cast(r.part_no as string) end as unit_key,
    sum(r.rated_quantity) as unit_quantity,
    sum(r.connections) as connections
  from period_usage as r
  join price as p on p.price_id = r.price_id and p.counted <> 'period'
  join charge as c on c.charge_id = p.charge_id
  group by 1, 2, 3, 4, 5, 6, 7, 8
)
select window_start, level, account_id, service_id, price_id,
  cast(unit_quantity as bigint) as unit_quantity,
  cast(case when connect_per = 'session' then greatest(-1, least(connections, 1))
            else connections end as bigint)
    as connections,
  cast(count(*) as bigint) as repeats
from single
group by 1, 2, 3, 4, 5, 6, 7
