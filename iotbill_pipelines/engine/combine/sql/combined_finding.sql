-- A count that no price of its charge is for.
select usage_period, 'no_combined_price' as code, service_id,
  charge_id || ' ' || account_id || ' ' || service_id || ' ' || cast(window_end as string)
    as subject,
  'charge ' || charge_id || ' of account ' || account_id || ' comes to ' || cast(units as string)
    || ' and has no price on the day before ' || cast(window_end as string)
    || '; extend its prices' as message
from combined_total
where price_id is null and units > 0
