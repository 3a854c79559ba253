-- The mart holds every rated record of its usage periods once a level, with its whole quantity.
with mart as (
    select usage_period, level, usage_class, sum(records) as records, sum(quantity) as quantity
    from {{ ref('usage_by_account_day') }}
    group by all
),

lake as (
    select
        usage_period,
        level,
        usage_class,
        count(*) filter (where part_no = 1) as records,
        sum(quantity) as quantity
    from {{ source('lake', 'rated_usage') }}
    where list_contains({{ var('daily_usage_periods', []) }}, usage_period)
    group by all
)

select *
from mart
full outer join lake using (usage_period, level, usage_class)
where mart.records is distinct from lake.records or mart.quantity is distinct from lake.quantity
