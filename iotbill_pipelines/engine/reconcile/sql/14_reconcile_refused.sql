-- Lines refused as a whole, per SIM, charge code and period, by cause.
select vendor_id, unit_type, unit_value, charge_code, usage_period, currency, refused as cause,
  count(*) as invoice_lines, cast(sum(amount_minor) as bigint) as amount_minor,
  min(uid_type) as uid_type, min(uid_value) as uid_value, min(service_id) as service_id,
  min(line_no) as first_line_no,
  case when min(invoice_no) = max(invoice_no) then min(invoice_no)
       else min(invoice_no) || ' + ' || max(invoice_no) end as invoice_no,
  cast(min(window_start) as string) as first_day,
  cast(max(window_end) - 1 as string) as end_day,
  coalesce(min(plan_no), 0) as least_billed_no, coalesce(max(plan_no), 0) as greatest_billed_no
from reconcile_placed
where refused is not null
group by vendor_id, unit_type, unit_value, charge_code, usage_period, currency, refused
