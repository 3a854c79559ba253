-- The groups that have a price, as quantities to be priced from zero.
select row_number() over (
    order by usage_month asc nulls last, feed_id asc nulls last, reason_code asc nulls last,
      usage_class asc nulls last, account_id asc nulls last, price_id asc nulls last,
      source asc nulls last) as slice_no,
  usage_month, feed_id, reason_code, usage_class, account_id, price_id, source, unit_size,
  cast(0 as bigint) as from_quantity, cast(quantity as bigint) as to_quantity,
  cast(quantity as bigint) as total_quantity
from suspense_group
where price_id is not null
