-- Occurrences of transition charges.
select usage_period, level, account_id, service_id, charge_id, occurrence_key as component_id,
  'transition' as kind,
  from_state || ' to ' || to_state || ' on ' || cast(local_date as string) || ' at price '
    || price_id as detail,
  0 as records, 1 as quantity, part_minor as amount_minor
from transition_apportioned
