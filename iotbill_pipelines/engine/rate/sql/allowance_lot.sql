-- Free units by what granted them: first those of the window, then the ones carried over, the oldest
-- first, then those granted once, the earliest to expire first (SP-22). Where no window of the charge
-- settles in the period they stay as they were.
with drawn_free as (
  select window_start, level, account_id, service_id, charge_id,
    sum(wide(allowance_quantity)) as quantity
  from usage_free
  group by window_start, level, account_id, service_id, charge_id
),
placed as (
  select l.*, coalesce(f.quantity, wide(0)) as free_quantity,
    wide(sum(wide(l.quantity)) over (
      partition by l.window_start, l.level, l.account_id, l.service_id, l.charge_id
      order by
        case when l.kind = 'once' then 2 when l.granted_on < l.window_start then 1 else 0 end asc
          nulls last,
        coalesce(l.expires_on, l.granted_on) asc nulls last, l.granted_on asc nulls last
      rows between unbounded preceding and current row)) as reached
  from own_lot as l
  left join drawn_free as f on f.window_start = l.window_start and f.level = l.level
    and f.account_id = l.account_id and f.service_id = l.service_id
    and f.charge_id = l.charge_id
),
drawn as (
  select *, least(wide(quantity), greatest(wide(0), free_quantity - (reached - quantity))) as drawn
  from placed
)
select usage_period, window_start, window_end, level, account_id, service_id, charge_id, kind,
  granted_on, expires_on, quantity, drawn,
  case when kind = 'once' and expires_on > window_end then quantity - drawn
       when kind = 'recurring' and windows_left > 0 then quantity - drawn
       else wide(0) end as carried_on,
  windows_left
from drawn
union all
select p.usage_period, k.window_start, k.window_end, k.level, k.account_id, k.service_id,
  k.charge_id, k.kind, k.granted_on, k.expires_on, k.quantity, k.drawn, k.carried_on,
  k.windows_left
from allowance_carry as k
cross join settled_period as p
where not exists (
  select 1 from own_lot as l
  where l.level = k.level and l.account_id = k.account_id and l.service_id = k.service_id
    and l.charge_id = k.charge_id)
  and not exists (
    select 1
    from charge_cycle as g
    join account_cycle as y on y.cycle_level = g.cycle_level
    join usage_window as w on w.cycle = g.cycle and w.bill_day = y.bill_day
    where g.charge_id = k.charge_id and y.account_id = k.account_id)
