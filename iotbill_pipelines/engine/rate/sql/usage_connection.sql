-- Connections that a price charges a fee for: records that used something, or sessions, each of
-- which belongs to the price of its first record (so a part that goes on pays none). A credit gives
-- a fee back.
with scoped as (
  select r.window_start, r.level, r.account_id,
    case when c.scope = 'account' then '' else r.service_id end
      as service_id, r.charge_id, r.price_id, r.event_start, r.connections, p.connect_per,
    p.connect_e12,
    case when p.connect_per = 'session' then r.session_key
         else cast(r.file_key as string) || '/' || cast(r.line_no as string) end as connection
  from period_usage as r
  join price as p on p.price_id = r.price_id
  join charge as c on c.charge_id = r.charge_id
  join (
    select distinct charge_id from price where connect_e12 > 0
  ) as k on k.charge_id = r.charge_id
  where r.connections <> 0
),
ordered as (
  select *,
    row_number() over (
      partition by window_start, level, account_id, service_id, charge_id, connection
      order by event_start asc nulls last, price_id asc nulls last) as place
  from scoped
)
select window_start, level, account_id, service_id, price_id,
  cast(sum(connections) as bigint) as connections
from ordered
where place = 1 and connect_e12 > 0
group by window_start, level, account_id, service_id, price_id
