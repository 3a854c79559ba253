-- A row per unit of desired or booked charges: what it should be, what is booked, the difference.
-- A product's GL class and tax code belong to the unit: if the catalog moves a product to another
-- class, the booked amount moves with it.
select
  coalesce(wanted.usage_period, booked.usage_period) as usage_period,
  coalesce(wanted.level, booked.level) as level,
  coalesce(wanted.entity_id, booked.entity_id) as entity_id,
  coalesce(wanted.account_id, booked.account_id) as account_id,
  coalesce(wanted.service_id, booked.service_id) as service_id,
  coalesce(wanted.charge_id, booked.charge_id) as charge_id,
  coalesce(wanted.product_id, booked.product_id) as product_id,
  coalesce(wanted.kind, booked.kind) as kind,
  coalesce(wanted.gl_class, booked.gl_class) as gl_class,
  coalesce(wanted.tax_code, booked.tax_code) as tax_code,
  coalesce(wanted.currency, booked.currency) as currency,
  -- the period that is being closed; an entity that closed it already books in its next open one
  coalesce(own.accounting_period, booking_period.accounting_period) as accounting_period,
  wanted.billing_period as wanted_billing_period,
  coalesce(wanted.price_ids, booked.price_ids) as price_ids,
  coalesce(booked.price_ids, '') as booked_price_ids,
  coalesce(booked.entries, 0) as entries,
  wanted.usage_period is not null as is_wanted,
  coalesce(wanted.records, 0) as records,
  coalesce(wanted.quantity, 0) as quantity,
  coalesce(wanted.amount_minor, 0) as amount_minor,
  coalesce(booked.records, 0) as booked_records,
  coalesce(booked.quantity, 0) as booked_quantity,
  coalesce(booked.amount_minor, 0) as booked_amount_minor,
  -- A non-linear amount has no price per unit that a delta could be explained with: the booked
  -- amount is reversed and the new one billed (CL-03). Nothing is reversed where nothing was paid.
  (wanted.usage_period is not null and not wanted.linear
   and coalesce(booked.amount_minor, 0) <> 0
   and wanted.amount_minor <> booked.amount_minor) as is_rebilled
from (
  select desired_charge.*, coalesce(product.gl_class, 'unknown') as gl_class,
         coalesce(product.tax_code, 'unknown') as tax_code
  from desired_charge left join product on product.product_id = desired_charge.product_id
) as wanted
full outer join booked_charge as booked
  on booked.usage_period = wanted.usage_period and booked.level = wanted.level
 and booked.entity_id = wanted.entity_id and booked.account_id = wanted.account_id
 and booked.service_id = wanted.service_id and booked.charge_id = wanted.charge_id
 and booked.product_id = wanted.product_id and booked.kind = wanted.kind
 and booked.gl_class = wanted.gl_class and booked.tax_code = wanted.tax_code
 and booked.currency = wanted.currency
cross join booking_period
left join entity_booking_period as own
  on own.entity_id = coalesce(wanted.entity_id, booked.entity_id)
