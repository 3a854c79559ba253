-- What was booked to customers, per accounting period, account and product.
select
    accounting_period,
    usage_period,
    entity_id,
    account_id,
    product_id,
    kind as charge_kind,
    currency,
    cast(count(*) as bigint) as ledger_lines,
    cast(sum(records) as bigint) as usage_records,
    cast(sum(amount) as decimal(20, 4)) as revenue
from {{ source('ledger', 'booked_charge') }}
where level = 'retail'
group by all
