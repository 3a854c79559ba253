-- The rows to book: a difference, or a reversal and a new line.
select usage_period,
       case when is_wanted then greatest(wanted_billing_period, accounting_period)
            else accounting_period end as billing_period,
       accounting_period, level, entity_id, account_id, service_id, charge_id, product_id, kind,
       gl_class, tax_code, currency,
       entries + 1 as entry_no,
       records - booked_records as records,
       quantity - booked_quantity as quantity,
       amount_minor - booked_amount_minor as amount_minor,
       case when entries = 0 then 'initial' when is_wanted then 'adjustment'
            else 'reversal' end as reason,
       price_ids
from booking_difference
where not is_rebilled
  and (records <> booked_records or quantity <> booked_quantity
       or amount_minor <> booked_amount_minor)
union all
select usage_period, accounting_period as billing_period, accounting_period, level, entity_id,
       account_id, service_id, charge_id, product_id, kind, gl_class, tax_code, currency,
       entries + 1 as entry_no, -booked_records as records, -booked_quantity as quantity,
       -booked_amount_minor as amount_minor, 'reversal' as reason, booked_price_ids as price_ids
from booking_difference
where is_rebilled
union all
select usage_period, greatest(wanted_billing_period, accounting_period) as billing_period,
       accounting_period, level, entity_id, account_id, service_id, charge_id, product_id, kind,
       gl_class, tax_code, currency, entries + 2 as entry_no, records, quantity, amount_minor,
       'rebill' as reason, price_ids
from booking_difference
where is_rebilled
