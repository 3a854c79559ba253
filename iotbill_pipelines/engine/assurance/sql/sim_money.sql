-- What each SIM earned and cost in the period by our own terms, per currency.
select d.service_id, d.currency,
  cast(sum(case when d.level = 'retail' then d.amount_minor else 0 end) as bigint)
    as revenue_minor,
  cast(sum(case when d.level = 'vendor' then d.amount_minor else 0 end) as bigint) as cost_minor,
  max(case when d.level = 'vendor' then d.account_id end) as vendor_id,
  cast(sum(case when d.level = 'vendor' and d.kind = 'usage' then d.records else 0 end) as bigint)
    as records
from desired_charge as d
join audit_scope as s on s.period = d.usage_period
where d.service_id <> ''
group by d.service_id, d.currency
