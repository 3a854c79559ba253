-- Retail prices of usage per month and class, likeliest first: valid in the month, most used in it,
-- unconditional, dearest. Once within each offer, once over the whole catalog.
with month as (
  select distinct usage_month, cast(usage_month || '-28' as date) as on_date from suspense_owner
),
used as (
  select usage_month, price_id, count(*) as records
  from rated_usage
  where level = 'retail'
  group by usage_month, price_id
),
listed as (
  select m.usage_month, c.usage_class, c.offer_id, c.charge_id, c.unit_size, f.currency, p.price_id,
    case when p.valid_from <= m.on_date and coalesce(p.valid_to > m.on_date, true)
         then 0 else 1 end as invalid,
    coalesce(u.records, 0) as uses, case when p.zone is null then 0 else 1 end as conditional,
    t.rate_e12 + t.flat_e12 as first_e12
  from month as m
  cross join charge as c
  join offer as f on f.offer_id = c.offer_id and f.level = 'retail'
  join price as p on p.charge_id = c.charge_id and p.priority > 0
  join price_tier as t on t.price_id = p.price_id and t.tier_no = 1
  left join used as u on u.usage_month = m.usage_month and u.price_id = p.price_id
  where c.kind = 'usage'
)
select usage_month, usage_class, offer_id, charge_id, unit_size, currency, price_id, uses,
  row_number() over (
    partition by usage_month, usage_class, offer_id
    order by invalid asc nulls last, uses desc nulls last, conditional asc nulls last,
      first_e12 desc nulls last, price_id asc nulls last) as place_in_offer,
  row_number() over (
    partition by usage_month, usage_class
    order by invalid asc nulls last, case when first_e12 > 0 then 0 else 1 end asc nulls last,
      uses desc nulls last, first_e12 desc nulls last, price_id asc nulls last) as place_in_catalog
from listed
