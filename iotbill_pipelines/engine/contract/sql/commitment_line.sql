-- Charges that may count towards commitments, per usage period: of the period as it is settled now,
-- of earlier ones as they were settled. A service is told where a contract is for it alone.
with every_charge as (
  select d.usage_period, d.level, d.account_id, d.service_id, d.charge_id, d.product_id, d.kind,
    d.currency, d.quantity, d.amount_minor
  from desired_charge as d
  join settled_period as p on p.usage_period = d.usage_period
  union all
  select e.usage_period, e.level, e.account_id, e.service_id, e.charge_id, e.product_id, e.kind,
    e.currency, e.quantity, e.amount_minor
  from earlier_charge as e
  join settled_period as p on e.usage_period < p.usage_period
)
select d.usage_period, d.level, d.account_id, coalesce(s.service_id, '') as service_id,
  d.charge_id, d.product_id, d.kind, d.currency,
  coalesce(t.commit_eligible, true) as commit_eligible, coalesce(t.hardware, false) as hardware,
  sum(d.quantity) as quantity, sum(d.amount_minor) as amount_minor
from every_charge as d
join (select distinct account_id from committed_scope) as a on a.account_id = d.account_id
left join (select account_id, service_id from committed_scope where service_id <> '') as s
  on s.account_id = d.account_id and s.service_id = d.service_id
left join product as t on t.product_id = d.product_id
where d.kind not in ('shortfall', 'commit_overage', 'termination_fee')
group by d.usage_period, d.level, d.account_id, coalesce(s.service_id, ''), d.charge_id,
  d.product_id, d.kind, d.currency, coalesce(t.commit_eligible, true),
  coalesce(t.hardware, false)
