-- The estimate of each group in minor units, and how it came about.
select g.usage_month, g.feed_id, g.reason_code, g.usage_class, g.account_id,
  cast(g.records as bigint) as records, cast(g.quantity as bigint) as quantity, g.currency,
  cast(half_up_div(p.exact_e12 * u.minor_per_unit, wide(g.unit_size) * ten_to(12)) as bigint)
    as amount_minor,
  case when g.source = 'offer'
       then 'price ' || g.price_id || ' of the owner''s offer ' || g.offer_id
       when g.source = 'catalog'
       then 'no offer is known: likeliest retail price for ' || g.usage_class || ', '
         || g.price_id || ' of ' || g.offer_id
       else 'not estimated: the catalog has no retail price for ' || g.usage_class end
  || case when p.exact_e12 = 0 and g.quantity > 0 then '; that price is 0: included in the plan'
          when p.exact_e12 > 0 and 2 * p.exact_e12 * u.minor_per_unit
            < wide(g.unit_size) * ten_to(12) then '; less than half of the smallest coin'
          else '' end as basis
from suspense_group as g
left join suspense_priced as p on p.usage_month = g.usage_month and p.feed_id = g.feed_id
  and p.reason_code = g.reason_code and p.usage_class = g.usage_class
  and coalesce(p.account_id, '') = coalesce(g.account_id, '') and p.price_id = g.price_id
  and p.source = g.source
left join currency_unit as u on u.currency = g.currency
