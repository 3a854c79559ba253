-- The vendor that has a contract for a SIM in the period, or had the last one, and its offer.
with ranked as (
  select c.service_id, c.payer_account_id as vendor_id, c.offer_id,
    case when c.valid_from < s.period_end and (c.valid_to is null or c.valid_to > s.period_start)
         then 1 else 0 end as in_period,
    row_number() over (
      partition by c.service_id
      order by case when c.valid_from < s.period_end
            and (c.valid_to is null or c.valid_to > s.period_start) then 0 else 1 end
          asc nulls last,
        c.valid_from desc nulls last, c.offer_id asc nulls last) as choice
  from service_offer as c
  cross join audit_scope as s
  where c.level = 'vendor'
)
select service_id, vendor_id, offer_id, in_period
from ranked
where choice = 1
