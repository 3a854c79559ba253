-- Revenue, cost and margin per paying account. What a SIM costs is its owner's: the account that it
-- was billed to most in the period, or the account that holds it where nobody was billed.
with earned as (
    select
        period as usage_period,
        currency,
        level,
        account_id,
        service_id,
        cast(sum(case when source = 'charge' then amount else 0 end) as decimal(20, 4)) as booked,
        cast(sum(amount) as decimal(20, 4)) as amount
    from {{ source('ledger', 'earned_amount') }}
    group by all
),

payer as (
    select
        usage_period,
        service_id,
        arg_min(account_id, (-booked, account_id)) as account_id
    from earned
    where level = 'retail' and service_id <> ''
    group by all
),

holder as (
    select service_id, account_id
    from {{ source('ledger', 'reference_service') }}
    where known_to is null
),

placed as (
    select
        c.usage_period,
        c.currency,
        case when c.level = 'retail' then c.account_id
            else coalesce(p.account_id, h.account_id, '(nobody)') end as account_id,
        case when c.level = 'retail' then c.booked else 0 end as booked_revenue,
        case when c.level = 'vendor' then c.booked else 0 end as booked_cost,
        case when c.level = 'retail' then c.amount else 0 end as revenue,
        case when c.level = 'vendor' then c.amount else 0 end as vendor_cost
    from earned as c
    left join payer as p on c.usage_period = p.usage_period and c.service_id = p.service_id
    left join holder as h on c.service_id = h.service_id
)

select
    placed.usage_period,
    placed.currency,
    placed.account_id,
    a.name as account_name,
    a.customer_group,
    cast(sum(placed.booked_revenue) as decimal(20, 4)) as booked_revenue,
    cast(sum(placed.booked_cost) as decimal(20, 4)) as booked_cost,
    cast(sum(placed.revenue) as decimal(20, 4)) as revenue,
    cast(sum(placed.vendor_cost) as decimal(20, 4)) as vendor_cost,
    cast(sum(placed.revenue) - sum(placed.vendor_cost) as decimal(20, 4)) as margin
from placed
left join {{ source('ledger', 'reference_account') }} as a
    on placed.account_id = a.account_id and a.known_to is null
group by all
