-- Vendor invoices against expected cost: one row per vendor, period and cause of variance.
-- A vendor whose invoice agrees to the cent has one row with cause 'none'; one whose invoice has
-- not come has one with cause 'not_invoiced': its expected cost is accrued.
with explained as (
    select
        reconciliation_id,
        cause,
        cast(count(*) as bigint) as reconciliation_lines,
        cast(sum(amount) as decimal(20, 4)) as amount
    from {{ source('ledger', 'vendor_reconciliation_cause') }}
    group by all
)

select
    r.accounting_period,
    r.vendor_id,
    r.currency,
    r.status,
    r.expected,
    r.invoiced,
    r.variance,
    coalesce(c.cause, case when r.status = 'accrued' then 'not_invoiced' else 'none' end) as cause,
    coalesce(c.reconciliation_lines, 0) as reconciliation_lines,
    coalesce(c.amount, case when r.status = 'accrued' then r.variance else 0 end)
        as variance_of_cause
from {{ source('ledger', 'vendor_reconciliation') }} as r
left join explained as c on r.reconciliation_id = c.reconciliation_id
