-- What accounts used a day: of the newest settled usage periods, at every level of the seller chain.
{%- set units = var('units', {}) %}
select
    usage_period,
    local_date as usage_day,
    level,
    account_id,
    offer_id,
    usage_class,
    {% if units %}
    case usage_class
        {% for class, unit in units | dictsort %}
        when '{{ class | replace("'", "''") }}' then '{{ unit }}'
        {% endfor %}
    end as unit,
    {% else %}
    cast(null as varchar) as unit,
    {% endif %}
    cast(count(*) filter (where part_no = 1) as bigint) as records,
    cast(sum(quantity) as decimal(38, 0)) as quantity,
    cast(sum(case when pooled then quantity else 0 end) as decimal(38, 0)) as pooled_quantity,
    cast(
        count(*) filter (where part_no = 1 and list_contains(string_split(flags, ' '), 'late'))
        as bigint
    ) as late_records
from {{ source('lake', 'rated_usage') }}
where list_contains({{ var('daily_usage_periods', []) }}, usage_period)
group by all
