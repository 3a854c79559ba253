-- How late usage came, by carrier and feed: records and quantity by days between the end of the UTC
-- month that they are of and the landing of their file.
{%- set carriers = var('carriers', {}) %}
with arrived as (
    select
        {% if carriers %}
        case f.feed_id
            {% for feed, carrier in carriers | dictsort %}
            when '{{ feed | replace("'", "''") }}' then '{{ carrier | replace("'", "''") }}'
            {% endfor %}
            else f.feed_id
        end as carrier,
        {% else %}
        f.feed_id as carrier,
        {% endif %}
        f.feed_id,
        o.usage_month,
        o.outcome,
        o.records,
        o.quantity,
        date_diff(
            'day', cast(o.usage_month || '-01' as date) + interval 1 month,
            cast(timezone('UTC', f.landed_at) as date)
        ) as days_after_month
    from {{ source('ledger', 'feed_file_outcome') }} as o
    inner join {{ source('ledger', 'feed_file') }} as f on o.file_key = f.file_key
)

select
    carrier,
    feed_id,
    usage_month,
    case
        when days_after_month <= 0 then '0 within the month'
        when days_after_month <= 2 then '1 up to 2 days'
        when days_after_month <= 7 then '2 up to 7 days'
        when days_after_month <= 30 then '3 up to 30 days'
        else '4 over 30 days'
    end as age_bucket,
    outcome,
    cast(sum(records) as bigint) as records,
    cast(sum(quantity) as decimal(38, 0)) as quantity,
    cast(max(days_after_month) as bigint) as latest_days
from arrived
group by all
