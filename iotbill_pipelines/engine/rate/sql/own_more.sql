-- Free units of a service beyond those that its charge grants in the window.
select window_start, level, account_id, service_id, charge_id,
  cast(sum(quantity) as bigint) as quantity
from own_lot
where kind = 'once' or granted_on < window_start
group by window_start, level, account_id, service_id, charge_id
