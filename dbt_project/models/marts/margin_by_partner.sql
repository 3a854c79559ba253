-- Cost per vendor, and the revenue of the SIMs that it carries. A SIM with several vendors counts
-- with the one that costs most (ties: the smallest name); one that costs nothing, and charges of an
-- account as a whole, stand at '(none)'.
with charge as (
    select
        usage_period,
        currency,
        level,
        account_id,
        service_id,
        cast(sum(amount) as decimal(20, 4)) as amount
    from {{ source('ledger', 'booked_charge') }}
    where level in ('retail', 'vendor')
    group by all
),

carrier as (
    select
        usage_period,
        currency,
        service_id,
        arg_min(account_id, (-amount, account_id)) as vendor_id
    from charge
    where level = 'vendor' and service_id <> ''
    group by all
)

select
    c.usage_period,
    c.currency,
    case when c.level = 'vendor' then c.account_id else coalesce(k.vendor_id, '(none)') end
        as vendor_id,
    cast(count(distinct c.service_id) as bigint) as services,
    cast(sum(case when c.level = 'retail' then c.amount else 0 end) as decimal(20, 4)) as revenue,
    cast(sum(case when c.level = 'vendor' then c.amount else 0 end) as decimal(20, 4))
        as vendor_cost,
    cast(sum(case when c.level = 'retail' then c.amount else -c.amount end) as decimal(20, 4))
        as margin
from charge as c
left join carrier as k
    on c.usage_period = k.usage_period and c.currency = k.currency and c.service_id = k.service_id
group by all
