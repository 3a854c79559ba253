-- Revenue and cost of every margin mart are exactly what the ledger holds, per currency.
with mart as (
    {% for name in
        ['margin_by_service', 'margin_by_customer', 'margin_by_product', 'margin_by_partner'] %}
    select
        '{{ name }}' as mart,
        currency,
        sum(revenue) as revenue,
        sum(vendor_cost) as vendor_cost,
        sum(margin) as margin
    from {{ ref(name) }}
    group by all
    {% if not loop.last %}union all{% endif %}
    {% endfor %}
),

ledger as (
    select
        currency,
        sum(case when level = 'retail' then amount else 0 end) as revenue,
        sum(case when level = 'vendor' then amount else 0 end) as vendor_cost
    from {{ source('ledger', 'booked_charge') }}
    where level in ('retail', 'vendor')
    group by currency
)

select *
from mart
full outer join ledger using (currency)
where mart.revenue is distinct from ledger.revenue
    or mart.vendor_cost is distinct from ledger.vendor_cost
    or mart.margin is distinct from ledger.revenue - ledger.vendor_cost
