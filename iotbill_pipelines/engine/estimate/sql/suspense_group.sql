-- Suspended quantity by who would probably pay for it and at which price.
select s.usage_month, s.feed_id, s.reason_code, s.usage_class, s.account_id,
  coalesce(o.price_id, c.price_id) as price_id, coalesce(o.offer_id, c.offer_id) as offer_id,
  coalesce(o.unit_size, c.unit_size) as unit_size, coalesce(o.currency, c.currency) as currency,
  case when o.price_id is not null then 'offer' when c.price_id is not null then 'catalog' end
    as source,
  count(*) as records, sum(s.quantity) as quantity
from suspense_owner as s
left join price_candidate as o on o.usage_month = s.usage_month and o.usage_class = s.usage_class
  and o.offer_id = s.offer_id and o.place_in_offer = 1
left join price_candidate as c on c.usage_month = s.usage_month and c.usage_class = s.usage_class
  and c.place_in_catalog = 1
group by s.usage_month, s.feed_id, s.reason_code, s.usage_class, s.account_id,
  coalesce(o.price_id, c.price_id), coalesce(o.offer_id, c.offer_id),
  coalesce(o.unit_size, c.unit_size), coalesce(o.currency, c.currency),
  case when o.price_id is not null then 'offer' when c.price_id is not null then 'catalog' end
