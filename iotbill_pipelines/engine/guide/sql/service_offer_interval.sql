-- The offer of a service at a level by local day of the payer, [from_date, to_date); one a day. Its
-- agreed end is moved by suspensions that extend terms.
with ordered as (
  select o.service_id, o.level, o.payer_account_id as account_id, o.offer_id,
    o.valid_from as from_date,
    case when x.days is null then o.valid_to
         else days_later(o.valid_to,
           least(x.days, days_between(o.valid_to, date '9999-12-31'))) end as valid_to,
    lead(o.valid_from) over (
      partition by o.service_id, o.level order by o.valid_from asc nulls last
    ) as next_from
  from service_offer as o
  left join offer_extension as x on x.service_id = o.service_id and x.level = o.level
    and x.valid_from = o.valid_from
),
cut as (
  select service_id, level, account_id, offer_id, from_date,
    least(coalesce(valid_to, date '9999-12-31'), coalesce(next_from, date '9999-12-31')) as to_date
  from ordered
)
select service_id, level, account_id, offer_id, from_date, to_date
from cut
where from_date < to_date
