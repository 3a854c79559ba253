-- What carriers billed per SIM for the period, with our service of that identifier if we have one.
with line as (
  select l.vendor_id, l.invoice_no, l.uid_type, l.uid_value, l.currency, l.amount,
    -- a 20th digit of an ICCID is its check digit, which carriers print or leave out
    case when l.uid_type = 'iccid' then substr(l.uid_value, 1, 19) else l.uid_value end
      as uid_match
  from vendor_invoice_line as l
  join audit_scope as s on s.period = l.billing_period
  where l.uid_value is not null
), owner as (
  select i.uid_type,
    case when i.uid_type = 'iccid' then substr(i.uid_value, 1, 19) else i.uid_value end
      as uid_match,
    i.service_id, row_number() over (
      partition by i.uid_type,
        case when i.uid_type = 'iccid' then substr(i.uid_value, 1, 19) else i.uid_value end
      order by case when i.valid_from < cast(s.period_end as timestamp)
            and (i.valid_to is null or i.valid_to > cast(s.period_start as timestamp))
          then 0 else 1 end asc nulls last,
        i.valid_from desc nulls last, i.service_id asc nulls last) as choice
  from service_identifier as i
  cross join audit_scope as s
), summed as (
  select l.vendor_id, l.uid_type, l.uid_match, l.currency, min(l.uid_value) as uid_value,
    min(l.invoice_no) as invoice_no, count(*) as invoice_lines,
    sum(wide(cast(cast(l.amount as decimal(25,12)) * cast(1000000000000 as decimal(13,0))
      as decimal(38,0)))) as amount_e12
  from line as l
  group by l.vendor_id, l.uid_type, l.uid_match, l.currency
)
select b.vendor_id, b.uid_type, b.uid_match, b.uid_value, b.currency, b.invoice_no, b.invoice_lines, o.service_id,
  cast(half_up_div(b.amount_e12, c.unit_e12) as bigint) as billed_minor
from summed as b
join audit_currency as c on c.currency = b.currency
left join owner as o on o.uid_type = b.uid_type and o.uid_match = b.uid_match and o.choice = 1
