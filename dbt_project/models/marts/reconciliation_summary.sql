-- Vendor invoices against expected cost: one row per vendor, period and cause of variance.
-- A vendor whose invoice agrees to the cent has one row with cause 'none'.
select
    r.accounting_period,
    r.vendor_id,
    r.currency,
    r.status,
    r.expected,
    r.invoiced,
    r.variance,
    coalesce(c.cause, 'none') as cause,
    cast(count(c.cause) as bigint) as reconciliation_lines,
    cast(coalesce(sum(c.amount), 0) as decimal(20, 4)) as variance_of_cause
from {{ source('ledger', 'vendor_reconciliation') }} as r
left join {{ source('ledger', 'vendor_reconciliation_cause') }} as c
    on r.reconciliation_id = c.reconciliation_id
group by all
