-- SIMs as their carriers have them: of each the newest that was told for a day of the period, with our
-- service of that identifier, its state of that day, and the carrier whose contract it has.
with told as (
  select c.vendor_id, c.as_of, c.uid_type, c.uid_value, c.state, c.core_state, c.last_seen,
    -- a 20th digit of an ICCID is its check digit, which carriers print or leave out
    case when c.uid_type = 'iccid' then substr(c.uid_value, 1, 19) else c.uid_value end
      as uid_match,
    row_number() over (
      partition by c.vendor_id, c.uid_type,
        case when c.uid_type = 'iccid' then substr(c.uid_value, 1, 19) else c.uid_value end
      order by c.as_of desc nulls last, c.file_key desc nulls last, c.line_no desc nulls last)
      as choice
  from carrier_sim as c
  join audit_scope as s on c.as_of >= s.period_start and c.as_of < s.period_end
), owner as (
  select t.vendor_id, t.uid_type, t.uid_match, i.service_id,
    row_number() over (
      partition by t.vendor_id, t.uid_type, t.uid_match
      order by i.valid_from desc nulls last, i.service_id asc nulls last) as place
  from told as t
  join service_identifier as i on i.uid_type = t.uid_type
    and case when i.uid_type = 'iccid' then substr(i.uid_value, 1, 19) else i.uid_value end
      = t.uid_match
    and i.valid_from < cast(days_later(t.as_of, 1) as timestamp)
    and (i.valid_to is null or i.valid_to >= cast(days_later(t.as_of, 1) as timestamp))
  where t.choice = 1
), ours as (
  select h.service_id, x.core_state, cast(h.changed_at as date) as first_day,
    cast(lead(h.changed_at) over (
      partition by h.service_id order by h.changed_at asc nulls last) as date) as next_day
  from service_state as h
  join state as x on x.state = h.state
)
select t.vendor_id, t.as_of, t.uid_type, t.uid_match, t.uid_value, t.state, t.core_state,
  t.last_seen, o.service_id, d.core_state as our_state
from told as t
left join owner as o on o.vendor_id = t.vendor_id and o.uid_type = t.uid_type
  and o.uid_match = t.uid_match and o.place = 1
left join ours as d on d.service_id = o.service_id and d.first_day <= t.as_of
  and (d.next_day is null or d.next_day > t.as_of)
where t.choice = 1
