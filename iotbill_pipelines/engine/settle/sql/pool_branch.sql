-- One step down the accounts (SP-16): what an account carries, over the accounts below it and its
-- own services. Where an account has none below it, it stands for itself on every further step.
-- All-zero weights stay zero here and are split equally.
with placed as (
  select s.window_start, s.level, s.pool_id, s.weight, above.ancestor_id as above_id,
    below.ancestor_id as account_id
  from pool_share as s
  join account_ancestor as top on top.account_id = s.account_id
    and top.ancestor_id = s.pool_account_id
  join account_ancestor as above on above.account_id = s.account_id
    and above.distance = greatest(0, top.distance - step_input + 1)
  join account_ancestor as below on below.account_id = s.account_id
    and below.distance = greatest(0, top.distance - step_input)
)
select p.window_start, p.level, p.pool_id, p.above_id, p.account_id,
  min(b.carried_minor) as above_minor, min(b.carried_overage) as above_overage,
  sum(p.weight) as branch_weight
from placed as p
join branch_input as b on b.window_start = p.window_start and b.level = p.level
  and b.pool_id = p.pool_id and b.account_id = p.above_id
group by p.window_start, p.level, p.pool_id, p.above_id, p.account_id
