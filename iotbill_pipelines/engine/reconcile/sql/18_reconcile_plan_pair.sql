-- Billed plan against agreed plan, in words, for every pair that occurs; null where a side has none.
-- A side that tells no version means any version of the plan.
with occurring as (
  select least_billed_no, greatest_billed_no, least_plan_no, greatest_plan_no
  from reconcile_compared
  union
  select min(least_billed_no), max(greatest_billed_no), 0, 0
  from reconcile_refused
  group by vendor_id, unit_type, unit_value, charge_code, usage_period, currency
), named as (
  select o.*, bl.plan_id as billed_id, bl.plan_version as billed_version, bl.plan as billed_plan,
    bg.plan_id as other_billed_id, bg.plan_version as other_billed_version,
    bg.plan as other_billed_plan, ol.plan_id as own_id, ol.plan_version as own_version,
    ol.plan as own_plan, og.plan_id as other_own_id, og.plan_version as other_own_version,
    og.plan as other_own_plan
  from occurring as o
  left join reconcile_plan as bl on bl.plan_no = o.least_billed_no
  left join reconcile_plan as bg on bg.plan_no = o.greatest_billed_no
  left join reconcile_plan as ol on ol.plan_no = o.least_plan_no
  left join reconcile_plan as og on og.plan_no = o.greatest_plan_no
), held as (
  select *,
    billed_id in (own_id, other_own_id) and other_billed_id in (own_id, other_own_id) as same_id,
    (billed_id = own_id
        and coalesce(billed_version = own_version, true)
      or billed_id = other_own_id
        and coalesce(billed_version = other_own_version, true))
    and (other_billed_id = own_id
        and coalesce(other_billed_version = own_version, true)
      or other_billed_id = other_own_id
        and coalesce(other_billed_version = other_own_version, true)) as same_version
  from named
)
select least_billed_no, greatest_billed_no, least_plan_no, greatest_plan_no,
  billed_plan || case when other_billed_plan <> billed_plan then ' + ' || other_billed_plan
                      else '' end as billed_plan,
  own_plan || case when other_own_plan <> own_plan then ' + ' || other_own_plan else '' end
    as own_plan,
  case when billed_plan is null or own_plan is null then cast(null as string)
       when same_version then 'same'
       when same_id then 'other_version'
       else 'other_plan' end as plan_match
from held
