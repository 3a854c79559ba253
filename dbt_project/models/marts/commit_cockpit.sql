-- Where commitments stand and will end, beside what is left of the account's fullest pool.
with pools as (
    select
        usage_period,
        account_id,
        cast(
            min(case when available > 0 then (available - used) / available end) as decimal(18, 6)
        ) as least_pool_headroom
    from {{ source('ledger', 'pool_headroom') }}
    group by all
)

select
    status.usage_period,
    status.level,
    status.account_id,
    status.service_id,
    status.contract_id,
    status.commitment_id,
    status.kind,
    status.unit,
    status.window_start,
    status.window_end,
    status.closes as window_closed,
    status.committed,
    status.measured,
    status.projected,
    status.projected_missing,
    status.currency,
    status.projected_minor,
    status.step_value,
    status.next_step_on,
    status.next_step_value,
    pools.least_pool_headroom,
    case
        when status.closes and status.missing > 0 then 'short'
        when status.closes then 'met'
        when status.projected_missing > 0 then 'at_risk'
        else 'on_track'
    end as outlook
from {{ source('ledger', 'commitment_status') }} as status
left join pools
    on status.usage_period = pools.usage_period and status.account_id = pools.account_id
