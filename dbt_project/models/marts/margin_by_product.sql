-- Revenue, cost and margin per product. A SIM's cost is shared by the products that it was billed
-- for, in proportion to their revenue: whole minor units, the rest to the largest remainders, ties
-- to the smallest product. Cost of a SIM without revenue, and of a vendor as a whole, stands at
-- '(no revenue)'.
with unit as (
    -- 100 for cents: how many ten-thousandths of the currency a minor unit is
    select
        currency,
        max(cast(abs(amount) * 10000 as hugeint) // abs(amount_minor)) as unit_e4
    from {{ source('ledger', 'earned_amount') }}
    where amount_minor <> 0
    group by all
),

earned as (
    select
        period as usage_period,
        currency,
        level,
        service_id,
        case when level = 'retail' then product_id else '' end as product_id,
        cast(sum(case when source = 'charge' then amount_minor else 0 end) as hugeint)
            as booked_minor,
        cast(sum(amount_minor) as hugeint) as minor
    from {{ source('ledger', 'earned_amount') }}
    group by all
),

billed as (
    select
        *,
        sum(case when service_id <> '' then greatest(minor, 0) else 0 end) over (
            partition by usage_period, currency, service_id
        ) as billed_minor
    from earned
    where level = 'retail'
),

cost as (
    select
        usage_period,
        currency,
        service_id,
        sum(minor) as cost_minor
    from earned
    where level = 'vendor'
    group by all
),

shared as (
    select
        b.usage_period,
        b.currency,
        b.service_id,
        b.product_id,
        sign(c.cost_minor) as direction,
        abs(c.cost_minor) as cost_minor,
        abs(c.cost_minor) * greatest(b.minor, 0) // b.billed_minor as floor_minor,
        abs(c.cost_minor) * greatest(b.minor, 0) % b.billed_minor as remainder
    from billed as b
    inner join cost as c
        on b.usage_period = c.usage_period and b.currency = c.currency
        and b.service_id = c.service_id
    where b.billed_minor > 0
),

apportioned as (
    select
        usage_period,
        currency,
        product_id,
        direction * (floor_minor + case when row_number() over (
            partition by usage_period, currency, service_id
            order by remainder desc, product_id
        ) <= cost_minor - sum(floor_minor) over (
            partition by usage_period, currency, service_id
        ) then 1 else 0 end) as cost_minor
    from shared
),

parts as (
    select
        usage_period,
        currency,
        product_id,
        booked_minor as booked_revenue_minor,
        minor as revenue_minor,
        0 as cost_minor
    from billed
    union all
    select usage_period, currency, product_id, 0, 0, cost_minor
    from apportioned
    union all
    select c.usage_period, c.currency, '(no revenue)', 0, 0, c.cost_minor
    from cost as c
    left join (
        select distinct usage_period, currency, service_id from billed where billed_minor > 0
    ) as b
        on c.usage_period = b.usage_period and c.currency = b.currency
        and c.service_id = b.service_id
    where b.service_id is null
),

summed as (
    select
        usage_period,
        currency,
        product_id,
        sum(booked_revenue_minor) as booked_revenue_minor,
        sum(revenue_minor) as revenue_minor,
        sum(cost_minor) as cost_minor
    from parts
    group by all
)

select
    s.usage_period,
    s.currency,
    s.product_id,
    {{ amount('s.booked_revenue_minor', 'u.unit_e4') }} as booked_revenue,
    {{ amount('s.revenue_minor', 'u.unit_e4') }} as revenue,
    {{ amount('s.cost_minor', 'u.unit_e4') }} as vendor_cost,
    {{ amount('s.revenue_minor - s.cost_minor', 'u.unit_e4') }} as margin
from summed as s
inner join unit as u on s.currency = u.currency
