-- Second step: what the account carries, beside each of its services.
select s.*, a.part_minor as account_minor, q.part_minor as account_overage
from pool_share as s
join pool_account_minor as a on a.window_start = s.window_start and a.level = s.level and a.pool_id = s.pool_id
  and a.account_id = s.account_id
join pool_account_overage as q on q.window_start = s.window_start and q.level = s.level and q.pool_id = s.pool_id
  and q.account_id = s.account_id
