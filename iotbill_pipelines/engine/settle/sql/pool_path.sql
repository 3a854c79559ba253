-- Which pools units of a day draw from, one after the other, and where those go that one leaves.
with day as (
  select distinct window_start, level, account_id, offer_id, usage_class, local_date from pool_unit
)
select d.window_start, d.level, d.account_id, d.offer_id, d.usage_class, d.local_date, r.pool_id,
  r.layer,
  row_number() over (
    partition by d.window_start, d.level, d.account_id, d.offer_id, d.usage_class, d.local_date
    order by r.place asc nulls last) as step,
  lead(r.pool_id) over (
    partition by d.window_start, d.level, d.account_id, d.offer_id, d.usage_class, d.local_date
    order by r.place asc nulls last) as next_pool_id
from day as d
join share_reach as r on r.window_start = d.window_start and r.level = d.level
  and r.account_id = d.account_id and r.offer_id = d.offer_id and r.usage_class = d.usage_class
  and r.opens_on <= d.local_date
