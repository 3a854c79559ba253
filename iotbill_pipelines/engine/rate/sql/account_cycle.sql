-- Bill days of accounts: their own, and that of the account they report to.
select a.account_id, 'account' as cycle_level, coalesce(a.bill_day, 1) as bill_day
from account as a
union all
select a.account_id, 'parent', coalesce(p.bill_day, 1)
from account as a
left join account as p on p.account_id = coalesce(a.parent_account_id, a.account_id)
