-- Cost per vendor, and the revenue of the SIMs that it carries. A SIM with several vendors counts
-- with the one that costs most (ties: the smallest name); one that costs nothing, and charges of an
-- account as a whole, stand at '(none)'.
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

carrier as (
    select
        usage_period,
        currency,
        service_id,
        arg_min(account_id, (-amount, account_id)) as vendor_id
    from earned
    where level = 'vendor' and service_id <> ''
    group by all
)

select
    c.usage_period,
    c.currency,
    case when c.level = 'vendor' then c.account_id else coalesce(k.vendor_id, '(none)') end
        as vendor_id,
    cast(count(distinct nullif(c.service_id, '')) as bigint) as services,
    cast(sum(case when c.level = 'retail' then c.booked else 0 end) as decimal(20, 4))
        as booked_revenue,
    cast(sum(case when c.level = 'vendor' then c.booked else 0 end) as decimal(20, 4))
        as booked_cost,
    cast(sum(case when c.level = 'retail' then c.amount else 0 end) as decimal(20, 4)) as revenue,
    cast(sum(case when c.level = 'vendor' then c.amount else 0 end) as decimal(20, 4))
        as vendor_cost,
    cast(sum(case when c.level = 'retail' then c.amount else -c.amount end) as decimal(20, 4))
        as margin
from earned as c
left join carrier as k
    on c.usage_period = k.usage_period and c.currency = k.currency and c.service_id = k.service_id
group by all
