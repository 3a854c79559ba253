-- What a combined charge is made of: every measure with what it comes to, per window.
select usage_period, level, account_id, service_id, charge_id,
  coalesce(price_id, 'no price') || days as component_id, 'combined' as kind,
  told || ': the greatest, ' || cast(units as string) || ', at price '
    || coalesce(price_id, '(none)') || days as detail,
  0 as records, units as quantity, amount_minor
from combined_total
