-- Segments of recurring charges.
select usage_period, level, account_id, service_id, charge_id, segment_key as component_id,
  'segment' as kind,
  state || ' from ' || cast(from_date as string) || ' to before ' || cast(to_date as string)
    || ', ' || cast(share_days as string) || '/' || cast(whole_days as string)
    || ' of price ' || price_id
    || case when days = '' then '' else ',' || days end as detail,
  0 as records, segment_days as quantity, part_minor as amount_minor
from (
  select a.*, case when m.start_date is not null then ''
    else ' of ' || cast(a.window_start as string) || ' to before '
      || cast(a.window_end as string) end as days
  from recurring_apportioned as a
  left join charge_period as m on m.start_date = a.window_start and m.end_date = a.window_end
) as spoken
