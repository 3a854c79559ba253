-- The causes of a vendor's variance sum to it exactly.
select
    accounting_period,
    vendor_id,
    currency,
    variance,
    sum(variance_of_cause) as explained
from {{ ref('reconciliation_summary') }}
group by all
having variance <> sum(variance_of_cause)
