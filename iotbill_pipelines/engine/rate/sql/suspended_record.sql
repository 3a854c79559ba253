-- One row for each record that cannot be rated at every level, with the first thing that is
-- missing; never rated at zero (RT-33). Conflicts and incomplete sessions of mediation wait here
-- too (MD-04, MD-05).
with failed as (
  select a.*,
    row_number() over (
      partition by a.file_key, a.line_no
      order by case a.reason_code when 'after_cancel' then 1 when 'no_offer' then 2
                 when 'no_rate' then 3 else 4 end
        asc nulls last, a.level asc nulls last) as rank_
  from rating_attempt as a
  where a.reason_code is not null
)
select file_key, line_no, feed_id, usage_month, event_start, uid_type, uid_value, usage_class,
  quantity, reason_code,
  case reason_code
    when 'no_owner' then 'no service has ' || uid_type || ' ' || uid_value || ' at that time; '
      || 'add it to the inventory'
    when 'after_cancel' then 'service ' || service_id || ' is cancelled at that time; '
      || 'check its states'
    when 'no_offer' then 'service ' || service_id || ' has no '
      || coalesce(level || ' ', '') || 'offer at that time; add it to the contracts'
    when 'no_cost' then 'charge ' || charge_id || ' marks up the cost of the record, which tells '
      || 'none; ask the carrier, or price ' || usage_class || ' in offer ' || offer_id || ' otherwise'
    when 'foreign_cost' then 'charge ' || charge_id || ' marks up a cost in ' || currency
      || ', the record tells it in ' || vendor_currency || '; price it in that currency'
    when 'late' then 'came ' || cast(late_days as string) || ' days after the close of '
      || usage_period || ', more than its feed bills by itself; decide'
    else 'offer ' || offer_id || ' has no price for ' || usage_class || ' on '
      || coalesce(cast(local_date as string), 'that day')
      || coalesce(' in network ' || mcc || coalesce('-' || mnc, ''), '')
      || coalesce(' (' || region || ')', '') || '; add it to the catalog'
  end as detail,
  service_id, level, cast(null as bigint) as other_file_key, cast(null as bigint) as other_line_no
from failed
where rank_ = 1
union all
select file_key, line_no, feed_id, usage_month, event_start, uid_type, uid_value, usage_class,
  quantity, 'conflict',
  'key ' || dedup_key || ' came with other content; kept is line '
    || cast(kept_line_no as string) || ' of file ' || cast(kept_file_key as string)
    || '; ask the carrier which is right',
  cast(null as string), cast(null as string), kept_file_key, kept_line_no
from repeated_record
where is_here and verdict = 'conflict'
union all
select file_key, line_no, feed_id, usage_month, event_start, uid_type, uid_value, usage_class,
  quantity, 'incomplete_session', detail, cast(null as string), cast(null as string),
  cast(null as bigint), cast(null as bigint)
from incomplete_record
