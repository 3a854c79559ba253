-- Units at the first pool that they draw from, for the windows of the round.
select u.*, p.pool_id, p.layer, p.next_pool_id
from pool_unit as u
join pool_path as p on p.window_start = u.window_start and p.level = u.level
  and p.account_id = u.account_id and p.offer_id = u.offer_id
  and p.usage_class = u.usage_class and p.local_date = u.local_date and p.step = 1
join pool_allotment as a on a.window_start = u.window_start and a.level = u.level
  and a.pool_id = p.pool_id
