-- Prices whose zone, time window and conditions fit, for every distinct kind of usage and band.
with asked as (
  select distinct k.charge_id, k.zone, k.trait, b.band
  from usage_kind as k
  cross join (select distinct band from local_calendar) as b
)
select a.charge_id, a.zone || '|' || a.trait || '|' || a.band as condition_key, p.price_id,
  p.priority, p.valid_from, coalesce(p.valid_to, date '9999-12-31') as valid_to
from asked as a
join price as p on p.charge_id = a.charge_id
where p.priority > 0 and (p.zone is null or p.zone = a.zone)
  and (p.window_no is null or substr(a.band, p.window_no, 1) = '1')
  and not exists (
    select 1 from price_condition as x
    where x.price_id = p.price_id and substr(a.trait, x.condition_no, 1) <> '1'
  )
