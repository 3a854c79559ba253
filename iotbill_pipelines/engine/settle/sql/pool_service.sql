-- The last step: what the account itself carries, beside each of its services.
select s.*, b.carried_minor as account_minor, b.carried_overage as account_overage
from pool_share as s
join branch_input as b on b.window_start = s.window_start and b.level = s.level
  and b.pool_id = s.pool_id and b.account_id = s.account_id
