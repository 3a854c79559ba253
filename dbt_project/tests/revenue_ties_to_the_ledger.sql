-- The mart holds exactly the revenue that was booked, per accounting period and currency.
with mart as (
    select accounting_period, currency, sum(revenue) as revenue
    from {{ ref('revenue_by_product_account') }}
    group by all
),

ledger as (
    select accounting_period, currency, sum(amount) as revenue
    from {{ source('ledger', 'booked_charge') }}
    where level = 'retail'
    group by all
)

select *
from mart
full outer join ledger using (accounting_period, currency)
where mart.revenue is distinct from ledger.revenue
