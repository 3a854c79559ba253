-- Every margin mart is exactly what the ledger holds, per currency: charges, and charges with what
-- defers, releases, accrues and trues them up.
with mart as (
    {% for name in
        ['margin_by_service', 'margin_by_customer', 'margin_by_product', 'margin_by_partner'] %}
    select
        '{{ name }}' as mart,
        usage_period,
        currency,
        sum(booked_revenue) as booked_revenue,
        {% if name != 'margin_by_product' %}sum(booked_cost){% else %}null{% endif %} as booked_cost,
        sum(revenue) as revenue,
        sum(vendor_cost) as vendor_cost,
        sum(margin) as margin
    from {{ ref(name) }}
    group by all
    {% if not loop.last %}union all{% endif %}
    {% endfor %}
),

charge as (
    select
        usage_period,
        currency,
        sum(case when level = 'retail' then amount else 0 end) as revenue,
        sum(case when level = 'vendor' then amount else 0 end) as cost
    from {{ source('ledger', 'booked_charge') }}
    where level in ('retail', 'vendor')
    group by all
),

-- deferred is not earned yet; what is released, accrued or trued up is
moved as (
    select
        accounting_period as usage_period,
        currency,
        sum(case when level <> 'retail' then 0 when purpose = 'deferral' then -amount else amount end)
            as revenue,
        sum(case when level <> 'vendor' then 0 when purpose = 'deferral' then -amount else amount end)
            as cost
    from {{ source('ledger', 'derived_entry') }}
    where level in ('retail', 'vendor') and purpose <> 'commission'
    group by all
),

ledger as (
    select
        usage_period,
        currency,
        coalesce(charge.revenue, 0) as booked_revenue,
        coalesce(charge.cost, 0) as booked_cost,
        coalesce(charge.revenue, 0) + coalesce(moved.revenue, 0) as revenue,
        coalesce(charge.cost, 0) + coalesce(moved.cost, 0) as vendor_cost
    from charge
    full outer join moved using (usage_period, currency)
)

select *
from mart
full outer join ledger using (usage_period, currency)
where mart.booked_revenue is distinct from ledger.booked_revenue
    or (mart.mart <> 'margin_by_product' and mart.booked_cost is distinct from ledger.booked_cost)
    or mart.revenue is distinct from ledger.revenue
    or mart.vendor_cost is distinct from ledger.vendor_cost
    or mart.margin is distinct from ledger.revenue - ledger.vendor_cost
