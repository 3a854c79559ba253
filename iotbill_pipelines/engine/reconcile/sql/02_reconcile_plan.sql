-- Every rate plan that was billed or agreed, numbered by id and version: a carrier may bill a plan's
-- name at the price of another version (VR-09).
with named as (
  select plan_id, plan_version from vendor_plan
  union
  select plan_id, plan_version from vendor_invoice_line where plan_id is not null
  union
  select offer_id, cast(null as string) from offer
)
select plan_id, plan_version, plan_id || coalesce(' version ' || plan_version, '') as plan,
  cast(row_number() over (order by plan_id asc nulls last, plan_version asc nulls first) as int)
    as plan_no
from named
