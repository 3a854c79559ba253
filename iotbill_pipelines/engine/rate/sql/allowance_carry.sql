-- What the newest window of each service and charge carries on.
with newest as (
  select *, max(window_start) over (
    partition by level, account_id, service_id, charge_id) as newest_start
  from allowance_lot_before
)
select n.*
from newest as n
join charge as c on c.charge_id = n.charge_id
where n.window_start = n.newest_start and n.carried_on > 0
