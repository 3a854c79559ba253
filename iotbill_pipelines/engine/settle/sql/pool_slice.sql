-- The overage of each pool as one count to be priced.
select slice_no, price_id, unit_size, wide(0) as from_quantity, wide(billed_quantity) as to_quantity,
  wide(billed_quantity) as total_quantity
from pool_total
where price_id is not null
