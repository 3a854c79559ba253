-- Segments of recurring charges.
select usage_period, level, account_id, service_id, charge_id, segment_key as component_id,
  'segment' as kind,
  state || ' from ' || cast(from_date as varchar) || ' to before ' || cast(to_date as varchar)
    || ', ' || cast(share_days as varchar) || '/' || cast(whole_days as varchar)
    || ' of price ' || price_id as detail,
  0 as records, segment_days as quantity, part_minor as amount_minor
from recurring_apportioned
