-- Bill days of accounts: their own, and those of the accounts whose pools they share.
select a.account_id, 'account' as cycle_level, coalesce(a.bill_day, 1) as bill_day
from account as a
union all
select q.account_id, 'plan ' || q.share_plan_id, coalesce(p.bill_day, 1)
from share_place as q
join account as p on p.account_id = q.pool_account_id
