-- Vendor invoices against expected cost: one row per vendor, period and cause of variance.
-- A vendor whose invoice agrees to the cent has one row with cause 'none'; one whose invoice has
-- not come has one with cause 'not_invoiced': its expected cost is accrued.
select
    r.accounting_period,
    r.vendor_id,
    r.currency,
    r.status,
    r.expected,
    r.invoiced,
    r.variance,
    coalesce(c.cause, case r.status when 'accrued' then 'not_invoiced' else 'none' end) as cause,
    cast(count(c.cause) as bigint) as reconciliation_lines,
    cast(
        case when r.status = 'accrued' then r.variance else coalesce(sum(c.amount), 0) end
        as decimal(20, 4)
    ) as variance_of_cause
from {{ source('ledger', 'vendor_reconciliation') }} as r
left join {{ source('ledger', 'vendor_reconciliation_cause') }} as c
    on r.reconciliation_id = c.reconciliation_id
group by all
