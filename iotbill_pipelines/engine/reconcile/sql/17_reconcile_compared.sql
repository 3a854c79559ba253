-- The compared variance of a SIM, charge code and period, split into causes (RULEBOOK §10):
-- first what is missing, then quantity at our rate, then price at their quantity. FX and tax are
-- told by the line itself. What is left is rounding as long as it is no more than a minor unit
-- for each line and each of our own rounded charges; otherwise nobody has explained it.
with measured as (
  select *, billed_minor - expected_minor as compared_minor,
    coalesce(half_up_div(tax_e12, unit_e12), wide(0)) as tax_minor,
    coalesce(half_up_div(fx_e24, wide(1000000000000) * unit_e12), wide(0)) as fx_minor,
    wide(greatest(invoice_lines, 1) + greatest(charges - 1, 0)) as rounding_limit,
    coalesce(abs(own_at_expected - expected_minor) <= greatest(charges, 1), false) as own_holds
  from reconcile_paired
), missing as (
  select *,
    case when invoice_lines = 0 and (counted_in <> 'units' or not unit_is_billed)
         then wide(-expected_minor) else wide(0) end as unbilled_minor,
    wide(billed_minor) - tax_minor - fx_minor as net_minor
  from measured
), quantified as (
  select *,
    case when counted_in <> 'days' or invoice_lines = 0 or not is_expected
           or their_quantity = own_quantity then wide(0)
         when own_holds then own_at_invoiced - own_at_expected
         when own_quantity > 0 then half_up_div(
           wide(their_quantity - own_quantity) * expected_minor, own_quantity)
         else wide(0) end as proration_guess,
    case when counted_in = 'days' or counted_in is null then wide(0)
         when invoice_lines = 0
           then case when unit_is_billed and counted_in = 'units' then wide(-expected_minor)
                     else wide(0) end
         when their_quantity is null then wide(0)
         when not is_expected then coalesce(own_at_invoiced, net_minor)
         when their_quantity = own_quantity then wide(0)
         when own_holds then own_at_invoiced - own_at_expected
         when own_quantity > 0 then half_up_div(
           wide(their_quantity - own_quantity) * expected_minor, own_quantity)
         else wide(0) end as usage_minor
  from missing
), prorated as (
  select *,
    -- dates may show a full month although the amount was prorated: days explain a difference
    -- only where they make it smaller
    case when abs(net_minor - expected_minor - proration_guess) < abs(net_minor - expected_minor)
         then proration_guess else wide(0) end as proration_minor
  from quantified
), left_over as (
  select *,
    net_minor - expected_minor - unbilled_minor - proration_minor - usage_minor as rest_minor,
    case when own_holds or (not is_expected and own_at_invoiced is not null) then own_at_invoiced
         when counted_in = 'units' and own_quantity > 0
           then half_up_div(wide(their_quantity) * expected_minor, own_quantity)
    end as own_for_theirs,
    is_expected or (usage_minor <> 0 and counted_in <> 'days') as has_basis
  from prorated
), rated as (
  select *,
    case when rest_minor = 0 or not has_basis then wide(0)
         -- their printed price agrees with their amount: it is the price that differs
         when counted_in = 'units' and own_for_theirs is not null
           and abs(printed_minor - net_minor) <= rounding_limit
           then printed_minor - own_for_theirs
         when abs(rest_minor) <= rounding_limit then wide(0)
         -- they print our price and bill another amount
         when least_price_e12 = rate_e12 and greatest_price_e12 = rate_e12 then wide(0)
         when counted_in = 'units' and their_quantity is null then wide(0)
         else rest_minor end as rate_minor
  from left_over
), rounded as (
  select *,
    case when has_basis and abs(rest_minor - rate_minor) <= rounding_limit
         then rest_minor - rate_minor else wide(0) end as rounding_minor
  from rated
)
select vendor_id, unit_type, unit_value, charge_code, usage_period, currency,
  coalesce('|' || alone.plan, '') as plan_key, uid_type, uid_value,
  service_id, kind, counted_in, unit_size, is_expected, charges, invoice_lines, invoice_no,
  first_line_no, coalesce(least_plan_no, 0) as least_plan_no,
  coalesce(greatest_plan_no, 0) as greatest_plan_no,
  coalesce(least_billed_no, 0) as least_billed_no,
  coalesce(greatest_billed_no, 0) as greatest_billed_no,
  own_quantity, their_quantity, rate_e12, least_price_e12,
  greatest_price_e12,
  cast(expected_minor as bigint) as expected_minor, cast(billed_minor as bigint) as billed_minor,
  cast(compared_minor as bigint) as compared_minor,
  cast(unbilled_minor as bigint) as unbilled_minor,
  cast(proration_minor as bigint) as proration_minor, cast(usage_minor as bigint) as usage_minor,
  cast(rate_minor as bigint) as rate_minor, cast(fx_minor as bigint) as fx_minor,
  cast(tax_minor as bigint) as tax_minor, cast(rounding_minor as bigint) as rounding_minor,
  cast(compared_minor - unbilled_minor - proration_minor - usage_minor - rate_minor - fx_minor
    - tax_minor - rounding_minor as bigint) as unexplained_minor
from rounded
left join reconcile_plan as alone on alone.plan_no = rounded.plan_slot
where expected_minor <> 0 or invoice_lines > 0
