-- Claims against vendors: what was claimed, credited and is still hoped for, by state and age.
with credit as (
    select dispute_id, cast(sum(amount) as decimal(20, 4)) as credited
    from {{ source('ledger', 'dispute_credit') }}
    group by all
),

claim as (
    select
        d.*,
        coalesce(c.credited, case when d.status = 'credited' then d.difference else 0 end)
            as credited,
        date_diff('day', cast(d.opened_at as date), current_date) as age_days
    from {{ source('ledger', 'dispute') }} as d
    left join credit as c on d.dispute_id = c.dispute_id
)

select
    vendor_id,
    accounting_period,
    currency,
    cause,
    status,
    case
        when age_days <= 30 then '0-30'
        when age_days <= 60 then '31-60'
        when age_days <= 90 then '61-90'
        when age_days <= 180 then '91-180'
        else 'over 180'
    end as age_bucket,
    cast(count(*) as bigint) as claims,
    cast(sum(difference) as decimal(20, 4)) as claimed,
    cast(sum(credited) as decimal(20, 4)) as credited,
    cast(sum(
        case when status in ('open', 'sent', 'accepted') then greatest(difference - credited, 0)
        else 0 end
    ) as decimal(20, 4)) as outstanding,
    min(deadline) as next_deadline
from claim
group by all
