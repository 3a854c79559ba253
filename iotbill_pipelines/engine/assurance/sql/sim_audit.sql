-- Every finding with the money at stake.
with invoiced as (
  select distinct l.vendor_id
  from vendor_invoice_line as l
  join audit_scope as s on s.period = l.billing_period
), billed as (
  select service_id, currency, min(vendor_id) as vendor_id, min(uid_value) as uid_value,
    min(invoice_no) as invoice_no, cast(sum(billed_minor) as bigint) as billed_minor
  from sim_billed
  where service_id is not null
  group by service_id, currency
), sim as (
  select coalesce(m.service_id, b.service_id) as service_id,
    coalesce(m.currency, b.currency) as currency, coalesce(m.revenue_minor, 0) as revenue_minor,
    coalesce(m.cost_minor, 0) as cost_minor, coalesce(b.billed_minor, 0) as billed_minor,
    coalesce(b.vendor_id, m.vendor_id) as vendor_id, b.invoice_no, coalesce(m.records, 0) as records
  from sim_money as m
  full outer join billed as b on b.service_id = m.service_id and b.currency = m.currency
), billed_somewhere as (
  -- a SIM that changed hands is billed once, under one of its services
  select distinct i.service_id
  from service_identifier as i
  join sim_billed as b on b.uid_type = i.uid_type
    and b.uid_match = case when i.uid_type = 'iccid' then substr(i.uid_value, 1, 19)
                           else i.uid_value end
), identifier as (
  select service_id, min(uid_value) as uid_value
  from service_identifier
  where uid_type = 'iccid'
  group by service_id
), known as (
  select sim.*, v.account_id, d.core_state, coalesce(d.was_active, 0) as was_active, d.cancelled_on,
    k.vendor_id as contract_vendor, i.uid_value
  from sim
  left join service as v on v.service_id = sim.service_id
  left join sim_day as d on d.service_id = sim.service_id
  left join sim_contract as k on k.service_id = sim.service_id and k.in_period = 1
  left join identifier as i on i.service_id = sim.service_id
), found as (
  select 'zombie' as finding, service_id, account_id, uid_value, vendor_id, core_state, currency,
    case when billed_minor > 0 then billed_minor else cost_minor end as amount_minor,
    case when billed_minor > 0 then 'billed on ' || invoice_no else 'cost by our terms' end
      || case when records > 0 then ', with traffic' else ', without traffic' end
      || '; nothing was charged for it' as evidence
  from known
  where revenue_minor = 0 and (cost_minor > 0 or billed_minor > 0)
  union all
  select 'ghost', service_id, account_id, uid_value, contract_vendor, core_state, currency,
    revenue_minor, 'charged to ' || coalesce(account_id, '(nobody)')
      || case when contract_vendor is null then '; no carrier has a contract for it'
              else '; neither our terms nor an invoice give a cost' end
  from known
  where revenue_minor > 0 and cost_minor = 0 and billed_minor = 0
  union all
  select 'billed_unknown', cast(null as string), cast(null as string), uid_value, vendor_id,
    cast(null as string), currency, billed_minor,
    'invoice ' || invoice_no || ', ' || cast(invoice_lines as string)
      || ' lines; no service has this SIM'
  from sim_billed
  where service_id is null
  union all
  select 'billed_inactive', service_id, account_id, uid_value, vendor_id, core_state, currency,
    billed_minor, 'invoice ' || invoice_no || '; active on no day of the month'
      || coalesce(', cancelled on ' || cancelled_on, '')
  from known
  where billed_minor > 0 and was_active = 0
  union all
  select 'active_unbilled', k.service_id, k.account_id, k.uid_value, k.contract_vendor,
    k.core_state, k.currency, k.cost_minor, 'active by our states; not on the invoice of '
      || k.contract_vendor
  from known as k
  join invoiced as v on v.vendor_id = k.contract_vendor
  left join billed_somewhere as b on b.service_id = k.service_id
  where k.was_active = 1 and b.service_id is null and k.cost_minor > 0
  union all
  select 'traffic_after_cancel', t.service_id, v.account_id, t.uid_value, t.vendor_id, d.core_state,
    t.currency, t.amount_minor, cast(t.records as string) || ' records of ' || t.usage_class
      || ' from ' || t.first_seen || coalesce(', cancelled on ' || d.cancelled_on, '')
      || '; ' || t.priced
  from sim_late_traffic as t
  left join service as v on v.service_id = t.service_id
  left join sim_day as d on d.service_id = t.service_id
  union all
  -- the carrier has it active, and may bill it: what it billed, else what a month costs
  select case when c.service_id is null then 'carrier_unknown' else 'carrier_active' end,
    c.service_id, v.account_id, c.uid_value, c.vendor_id, c.our_state,
    coalesce(b.currency, f.currency), coalesce(b.billed_minor, f.fee_minor),
    c.vendor_id || ' has it as ' || c.state || ' on ' || cast(c.as_of as string)
      || coalesce(', last seen on ' || cast(c.last_seen as string), '')
      || case when c.service_id is null then '; no service has this SIM'
              else '; we have it as ' || coalesce(c.our_state, 'nothing') end
  from sim_carrier as c
  left join service as v on v.service_id = c.service_id
  left join sim_contract as k on k.service_id = c.service_id
  left join sim_fee as f on f.offer_id = k.offer_id
  left join sim_billed as b on b.vendor_id = c.vendor_id and b.uid_type = c.uid_type
    and b.uid_match = c.uid_match
  where c.core_state = 'active' and (c.service_id is null or c.our_state is null
    or c.our_state <> 'active')
  union all
  -- ours is active and its carrier does not serve it: what its customer was charged
  select 'carrier_inactive', c.service_id, v.account_id, c.uid_value, c.vendor_id, c.our_state,
    m.currency, coalesce(m.revenue_minor, 0),
    c.vendor_id || ' has it as ' || c.state || ' on ' || cast(c.as_of as string)
      || '; we have it as active'
  from sim_carrier as c
  left join service as v on v.service_id = c.service_id
  left join sim_money as m on m.service_id = c.service_id
  where c.our_state = 'active' and c.core_state <> 'active'
  union all
  -- ours is active under the carrier's contract, and none of its lists of the period has it
  select 'carrier_missing', d.service_id, v.account_id, i.uid_value, k.vendor_id, d.core_state,
    m.currency, coalesce(m.cost_minor, 0), 'active by our states; in no list of ' || k.vendor_id
      || ' of the month'
  from sim_day as d
  join sim_contract as k on k.service_id = d.service_id and k.in_period = 1
  join (select distinct vendor_id from sim_carrier) as t on t.vendor_id = k.vendor_id
  left join sim_listed as l on l.service_id = d.service_id
  left join service as v on v.service_id = d.service_id
  left join sim_money as m on m.service_id = d.service_id
  left join identifier as i on i.service_id = d.service_id
  where d.core_state = 'active' and l.service_id is null
  union all
  -- traffic of a SIM that its carrier has switched off before
  select 'traffic_not_active', c.service_id, v.account_id, c.uid_value, c.vendor_id, c.our_state,
    m.currency, coalesce(m.cost_minor, 0), c.vendor_id || ' has it as ' || c.state
      || ' on ' || cast(c.as_of as string) || ', last seen on ' || cast(c.last_seen as string)
      || '; ' || cast(m.records as string) || ' records in the month'
  from sim_carrier as c
  join sim_money as m on m.service_id = c.service_id and m.records > 0
  cross join audit_scope as s
  left join service as v on v.service_id = c.service_id
  where c.core_state <> 'active' and c.last_seen < s.period_start
)
select * from found
