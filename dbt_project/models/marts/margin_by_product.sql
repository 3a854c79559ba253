-- Revenue, cost and margin per product. What a product carries of a SIM's cost is apportioned by the
-- program; it is only added up here.
with part as (
    select
        period as usage_period,
        currency,
        product_id,
        case when source = 'charge' then amount else 0 end as booked_revenue,
        amount as revenue,
        0 as vendor_cost
    from {{ source('ledger', 'earned_amount') }}
    where level = 'retail'
    union all
    select usage_period, currency, product_id, 0, 0, amount
    from {{ source('ledger', 'product_cost') }}
)

select
    usage_period,
    currency,
    product_id,
    cast(sum(booked_revenue) as decimal(20, 4)) as booked_revenue,
    cast(sum(revenue) as decimal(20, 4)) as revenue,
    cast(sum(vendor_cost) as decimal(20, 4)) as vendor_cost,
    cast(sum(revenue) - sum(vendor_cost) as decimal(20, 4)) as margin
from part
group by all
