-- Expected and billed side by side, with our own price at both quantities.
with billed_unit as (
  select distinct vendor_id, unit_type, unit_value from reconcile_billed
), paired as (
  select coalesce(e.vendor_id, b.vendor_id) as vendor_id,
    coalesce(e.unit_type, b.unit_type) as unit_type,
    coalesce(e.unit_value, b.unit_value) as unit_value,
    coalesce(e.charge_code, b.charge_code) as charge_code,
    coalesce(e.usage_period, b.usage_period) as usage_period,
    coalesce(e.currency, b.currency) as currency,
    coalesce(e.plan_slot, b.plan_slot) as plan_slot, e.least_plan_no, e.greatest_plan_no,
    b.least_billed_no, b.greatest_billed_no,
    coalesce(b.uid_type, e.uid_type) as uid_type, coalesce(b.uid_value, e.uid_value) as uid_value,
    coalesce(b.service_id, e.service_id) as service_id,
    e.vendor_id is not null as is_expected, e.kind as expected_kind, e.basis,
    coalesce(e.billable, 'days') as billable,
    coalesce(e.charges, 0) as charges, e.unit_size as expected_unit_size,
    e.rate_e12 as expected_rate_e12, coalesce(e.allowance_quantity, 0) as allowance_quantity,
    e.expected_quantity, coalesce(e.expected_minor, 0) as expected_minor,
    coalesce(b.invoice_lines, 0) as invoice_lines, coalesce(b.billed_minor, 0) as billed_minor,
    b.billed_quantity, b.billed_days, b.days_of_period, b.printed_e12, b.least_price_e12,
    b.greatest_price_e12, b.tax_e12, b.fx_e24, b.first_line_no, b.invoice_no
  from reconcile_expected as e
  full outer join reconcile_billed as b
    on b.vendor_id = e.vendor_id and b.unit_type = e.unit_type and b.unit_value = e.unit_value
    and b.charge_code = e.charge_code and b.usage_period = e.usage_period
    and b.currency = e.currency and b.plan_slot = e.plan_slot
), priced as (
  select p.*, money.unit_e12, coalesce(p.expected_kind, t.kind) as kind,
    coalesce(p.expected_unit_size, named.unit_size, t.unit_size) as unit_size,
    case when p.is_expected then p.expected_rate_e12
         else coalesce(named.rate_e12, t.rate_e12) end as rate_e12,
    u.vendor_id is not null as unit_is_billed
  from paired as p
  join reconcile_currency as money on money.currency = p.currency
  left join reconcile_term as t
    on t.vendor_id = p.vendor_id and t.charge_code = p.charge_code
  left join reconcile_plan_term as named on named.vendor_id = p.vendor_id
    and named.charge_code = p.charge_code and named.plan_no = p.least_billed_no
    and p.least_billed_no = p.greatest_billed_no
  left join billed_unit as u on u.vendor_id = p.vendor_id and u.unit_type = p.unit_type
    and u.unit_value = p.unit_value
), counted as (
  -- what the charge is counted in: units, days of the period, or occurrences
  select *,
    case when kind in ('usage', 'overage') then 'units'
         when kind = 'recurring' and unit_type <> '' and billable = 'days' then 'days'
         when kind is not null then 'occurrences' end as counted_in,
    case when basis in ('actual_30', 'strict_30_360') then 30 else days_of_period end as day_base
  from priced
), numbered as (
  -- services that count: as many whole prices as we expect
  select *,
    case when billable <> 'days' and rate_e12 > 0
         then cast(half_up_div(wide(expected_minor) * unit_e12, rate_e12) as bigint)
         else charges end as occurrences,
    case when billable <> 'days' and unit_type <> '' then invoice_lines
         else coalesce(billed_quantity, invoice_lines) end as billed_occurrences
  from counted
)
select *,
  case when counted_in = 'days' then expected_quantity
       when counted_in = 'occurrences' then occurrences else expected_quantity end as own_quantity,
  case when counted_in = 'days' then billed_days
       when counted_in = 'occurrences' then billed_occurrences
       else billed_quantity end as their_quantity,
  case when rate_e12 is null then null
       when counted_in = 'units' then half_up_div(
         wide(greatest(coalesce(expected_quantity, 0) - allowance_quantity, 0)) * rate_e12,
         wide(unit_size) * unit_e12)
       when counted_in = 'days' and basis in ('none', 'full_on_activation')
         then half_up_div(rate_e12, unit_e12)
       when counted_in = 'days' then half_up_div(
         wide(least(expected_quantity, day_base)) * rate_e12, wide(day_base) * unit_e12)
       when counted_in = 'occurrences' then half_up_div(wide(occurrences) * rate_e12, unit_e12)
  end as own_at_expected,
  case when rate_e12 is null then null
       when counted_in = 'units' then half_up_div(
         wide(greatest(billed_quantity - allowance_quantity, 0)) * rate_e12,
         wide(unit_size) * unit_e12)
       when counted_in = 'days' and (basis in ('none', 'full_on_activation')
           or billed_days = days_of_period)
         then half_up_div(rate_e12, unit_e12)
       when counted_in = 'days' then half_up_div(
         wide(least(billed_days, day_base)) * rate_e12, wide(day_base) * unit_e12)
       when counted_in = 'occurrences' then half_up_div(
         wide(billed_occurrences) * rate_e12, unit_e12)
  end as own_at_invoiced,
  case when printed_e12 is not null and unit_size is not null then half_up_div(
         printed_e12, wide(case when counted_in = 'units' then unit_size else 1 end) * unit_e12)
  end as printed_minor
from numbered
