-- Minor units of one unit of a currency, as an integer.
select currency,
  cast(case minor_digits when 0 then 1 when 1 then 10 when 2 then 100 when 3 then 1000
       when 4 then 10000 end as bigint) as minor_per_unit
from currency
