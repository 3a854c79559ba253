-- Every cause with its part of the variance and its evidence. Per SIM, charge code, period and
-- currency the parts add up to the variance, `unexplained` being what is left.
with scaled as (
  -- quantities in priced units with three decimals, for people
  select c.*,
    half_up_div(abs(wide(own_quantity)) * 1000,
      case when counted_in = 'units' then unit_size else 1 end) as own_e3,
    half_up_div(abs(wide(their_quantity)) * 1000,
      case when counted_in = 'units' then unit_size else 1 end) as their_e3
  from reconcile_compared as c
), own as (
  select s.*, p.own_plan, p.plan_match,
    ', plan ' || p.billed_plan as billed_plan,
    'own price ' || regexp_replace(
      cast(floor_div(rate_e12, 1000000000000) as string) || '.' || lpad(cast(
        wide(rate_e12) - floor_div(rate_e12, 1000000000000) * wide(1000000000000) as string),
        12, '0'), '[.]?0+$', '') as own_price,
    case when invoice_lines = 0 then 'not on the invoice'
         else 'invoice ' || invoice_no || ' line ' || cast(first_line_no as string)
           || case when invoice_lines > 1
                   then ' and ' || cast(invoice_lines - 1 as string) || ' more' else '' end
    end as place,
    regexp_replace(
      cast(floor_div(greatest_price_e12, 1000000000000) as string) || '.' || lpad(cast(
        wide(greatest_price_e12) - floor_div(greatest_price_e12, 1000000000000)
          * wide(1000000000000) as string), 12, '0'), '[.]?0+$', '') as their_price,
    coalesce(case when own_quantity < 0 then '-' else '' end || regexp_replace(
      cast(floor_div(own_e3, 1000) as string) || '.'
        || lpad(cast(own_e3 - floor_div(own_e3, 1000) * 1000 as string), 3, '0'),
      '[.]?0+$', ''), 'nothing') as own_counted,
    coalesce(case when their_quantity < 0 then '-' else '' end || regexp_replace(
      cast(floor_div(their_e3, 1000) as string) || '.'
        || lpad(cast(their_e3 - floor_div(their_e3, 1000) * 1000 as string), 3, '0'),
      '[.]?0+$', ''), 'nothing') as their_counted
  from scaled as s
  join reconcile_plan_pair as p on p.least_billed_no = s.least_billed_no
    and p.greatest_billed_no = s.greatest_billed_no and p.least_plan_no = s.least_plan_no
    and p.greatest_plan_no = s.greatest_plan_no
), causes as (
  select vendor_id, unit_type, unit_value, charge_code, usage_period, currency, '' as plan_key,
    cause, amount_minor, invoice_no,
    'invoice ' || invoice_no || ' line ' || cast(first_line_no as string)
      || case when invoice_lines > 1
              then ' and ' || cast(invoice_lines - 1 as string) || ' more' else '' end
      || case cause
           when 'duplicate'
             then ': billed before with the same SIM, dates, charge code, quantity and amount'
           when 'wrong_period' then ': service from ' || first_day
             || ' belongs on another invoice'
           when 'unknown_sim' then ': this SIM is not on our contract with the vendor'
           when 'billed_inactive' then ': service ' || service_id || ' was not active between '
             || first_day || ' and ' || end_day
           else ': tax' end as evidence
  from reconcile_refused
  union all
  select vendor_id, unit_type, unit_value, charge_code, usage_period, currency, plan_key, 'unbilled_sim',
    unbilled_minor, invoice_no,
    'expected for service ' || coalesce(service_id, '(account)')
      || case when plan_key <> '' then ' on plan ' || own_plan else '' end || ', not on the invoice'
  from own
  union all
  select vendor_id, unit_type, unit_value, charge_code, usage_period, currency, plan_key, 'proration',
    proration_minor, invoice_no,
    place || ': billed ' || their_counted || ' days, ours ' || own_counted || coalesce(', ' || own_price, '')
  from own
  union all
  select vendor_id, unit_type, unit_value, charge_code, usage_period, currency, plan_key, 'usage',
    usage_minor, invoice_no,
    place || ': billed ' || their_counted || ', ours ' || own_counted
      || coalesce(', ' || own_price, '')
  from own
  union all
  select vendor_id, unit_type, unit_value, charge_code, usage_period, currency, plan_key, 'rate',
    rate_minor, invoice_no,
    place || coalesce(': billed price ' || their_price, ': price not printed')
      || coalesce(', ' || own_price, ', own price by tier or zone')
      || coalesce(billed_plan || case when plan_match <> 'same' then '; agreed is ' || own_plan
        else '' end, billed_plan, '')
  from own
  union all
  select vendor_id, unit_type, unit_value, charge_code, usage_period, currency, plan_key, 'fx', fx_minor,
    invoice_no, place || ': converted at another rate than agreed'
  from own
  union all
  select vendor_id, unit_type, unit_value, charge_code, usage_period, currency, plan_key, 'tax', tax_minor,
    invoice_no, place || ': tax contained in the amount'
  from own
  union all
  select vendor_id, unit_type, unit_value, charge_code, usage_period, currency, plan_key, 'rounding',
    rounding_minor, invoice_no, place || ': both sides rounded to the minor unit'
  from own
  union all
  select vendor_id, unit_type, unit_value, charge_code, usage_period, currency, plan_key, 'unexplained',
    unexplained_minor, invoice_no,
    place || case when kind is null then ': no term of ours has this charge code'
                  when not is_expected then ': our terms give nothing for this SIM'
                  else ': amount is not quantity x price' end
  from own
  union all
  select vendor_id, '', '', '(invoice rounding)', s.period, currency, '', 'rounding',
    invoiced_minor - lines_minor, invoice_no,
    'invoice ' || invoice_no || ': total of its unrounded lines against its rounded lines'
  from reconcile_invoice
  cross join reconcile_scope as s
)
select md5(c.vendor_id || '|' || c.unit_type || '|' || c.unit_value || '|' || c.charge_code || '|'
    || c.usage_period || '|' || c.currency || c.plan_key
    || case when c.charge_code = '(invoice rounding)' then '|' || c.invoice_no else '' end)
    as line_key,
  s.period as accounting_period, c.usage_period, c.vendor_id, c.invoice_no, c.unit_type,
  c.unit_value, c.charge_code, c.cause, c.currency, cast(c.amount_minor as bigint) as amount_minor,
  c.evidence
from causes as c
cross join reconcile_scope as s
where c.amount_minor <> 0
