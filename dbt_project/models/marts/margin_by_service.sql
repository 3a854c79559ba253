-- Revenue less expected vendor cost per service; the flag names cost that nobody is billed for.
with booked as (
    select
        usage_period,
        service_id,
        currency,
        cast(sum(case when level = 'retail' then amount else 0 end) as decimal(20, 4)) as revenue,
        cast(sum(case when level = 'vendor' then amount else 0 end) as decimal(20, 4)) as vendor_cost
    from {{ source('ledger', 'booked_charge') }}
    where level in ('retail', 'vendor')
    group by all
)

select
    *,
    cast(revenue - vendor_cost as decimal(20, 4)) as margin,
    case
        when revenue = 0 and vendor_cost > 0 then 'cost_without_revenue'
        when revenue > 0 and vendor_cost = 0 then 'revenue_without_cost'
        when revenue < vendor_cost then 'negative'
        else 'ok'
    end as margin_flag
from booked
