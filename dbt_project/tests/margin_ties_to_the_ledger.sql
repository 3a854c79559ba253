-- Revenue and cost of the mart are exactly what the ledger holds, per currency.
with mart as (
    select currency, sum(revenue) as revenue, sum(vendor_cost) as vendor_cost
    from {{ ref('margin_by_service') }}
    group by currency
),

ledger as (
    select
        currency,
        sum(case when level = 'retail' then amount else 0 end) as revenue,
        sum(case when level = 'vendor' then amount else 0 end) as vendor_cost
    from {{ source('ledger', 'booked_charge') }}
    group by currency
)

select *
from mart
full outer join ledger using (currency)
where mart.revenue is distinct from ledger.revenue
    or mart.vendor_cost is distinct from ledger.vendor_cost
