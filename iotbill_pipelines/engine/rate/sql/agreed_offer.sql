-- Other offers that were agreed for what a service uses or has, by local day, on some level of the
-- lookup (RULEBOOK §6, RT-32): line item contract, account contract, bucket tier, service, package,
-- account, owner.
with placed as (
  select i.service_id, i.level, i.account_id, i.offer_id, i.from_date, i.to_date, o.share_plan_id,
    a.parent_account_id, a.entity_id
  from service_offer_interval as i
  join offer as o on o.offer_id = i.offer_id
  join account as a on a.account_id = i.account_id
),
agreed as (
  select p.service_id, p.level, p.account_id, p.offer_id as own_offer_id, v.offer_id, v.priority,
    greatest(p.from_date, v.valid_from) as from_date,
    least(p.to_date, coalesce(v.valid_to, date '9999-12-31')) as to_date
  from placed as p
  join price_override as v on v.level = p.level
    and v.target_id = case v.scope
      when 'line_item' then p.service_id when 'account_contract' then p.account_id
      when 'bucket_tier' then p.share_plan_id when 'service' then p.service_id
      when 'package' then p.offer_id when 'account' then p.account_id
      else case when v.target_id = p.parent_account_id then p.parent_account_id
                else p.entity_id end end
)
select * from agreed where from_date < to_date
