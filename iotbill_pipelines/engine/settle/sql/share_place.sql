-- Whose pool an account's services share: its own, that of an account above it, or of its tree.
select s.share_plan_id, s.currency, s.join_policy, s.billable, s.activation, s.attribution, t.account_id,
  t.ancestor_id as pool_account_id
from share_plan as s
join account_ancestor as t
  on t.distance = case s.share_level when 'account' then 0 when 'root' then t.depth
                  else least(s.levels_up, t.depth) end
