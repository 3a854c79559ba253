-- Revenue less expected vendor cost per service and month; the flag names cost that nobody is billed
-- for. What is booked for an account as a whole stands at service ''.
with moved as (
    select
        period as usage_period,
        service_id,
        currency,
        cast(
            sum(case when level = 'retail' and source = 'charge' then amount else 0 end)
            as decimal(20, 4)
        ) as booked_revenue,
        cast(
            sum(case when level = 'vendor' and source = 'charge' then amount else 0 end)
            as decimal(20, 4)
        ) as booked_cost,
        cast(sum(case when level = 'retail' then amount else 0 end) as decimal(20, 4)) as revenue,
        cast(sum(case when level = 'vendor' then amount else 0 end) as decimal(20, 4)) as vendor_cost
    from {{ source('ledger', 'earned_amount') }}
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
from moved
