-- Services that a carrier's list names by any of their identifiers.
select distinct i.service_id
from service_identifier as i
join sim_carrier as c on c.uid_type = i.uid_type
  and c.uid_match = case when i.uid_type = 'iccid' then substr(i.uid_value, 1, 19)
                         else i.uid_value end
