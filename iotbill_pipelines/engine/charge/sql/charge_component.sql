-- Everything that charges are made of.
select usage_period, level, account_id, service_id, charge_id, component_id, kind, detail, records,
  quantity, amount_minor
from usage_component
union all
select usage_period, level, account_id, service_id, charge_id, component_id, kind, detail, records,
  quantity, amount_minor
from recurring_component
union all
select usage_period, level, account_id, service_id, charge_id, component_id, kind, detail, records,
  quantity, amount_minor
from transition_component
union all
select usage_period, level, account_id, service_id, charge_id, component_id, kind, detail, records,
  quantity, amount_minor
from pool_share_component
