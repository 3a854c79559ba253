-- Which price of a charge holds on a day, [from_date, to_date), by condition: of the candidates that
-- fit a condition the first by priority (RULEBOOK §6); adjacent spans of one price are one.
with bound as (
  select charge_id, condition_key, valid_from as at_date from candidate_input
  union
  select charge_id, condition_key, valid_to from candidate_input
),
span as (
  select charge_id, condition_key, at_date as from_date,
    lead(at_date) over (
      partition by charge_id, condition_key order by at_date asc nulls last) as to_date
  from bound
),
ranked as (
  select s.charge_id, s.condition_key, s.from_date, s.to_date, c.price_id,
    row_number() over (
      partition by s.charge_id, s.condition_key, s.from_date
      order by c.priority asc nulls last, c.price_id asc nulls last) as rank_
  from span as s
  join candidate_input as c on c.charge_id = s.charge_id and c.condition_key = s.condition_key
    and c.valid_from <= s.from_date and c.valid_to >= s.to_date
),
chosen as (
  select charge_id, condition_key, from_date, to_date, price_id,
    lag(price_id) over (
      partition by charge_id, condition_key order by from_date asc nulls last) as before_price_id,
    lag(to_date) over (
      partition by charge_id, condition_key order by from_date asc nulls last) as before_to_date
  from ranked
  where rank_ = 1
),
numbered as (
  select charge_id, condition_key, from_date, to_date, price_id,
    sum(case when price_id = before_price_id and from_date = before_to_date then 0 else 1 end) over (
      partition by charge_id, condition_key order by from_date asc nulls last
      rows between unbounded preceding and current row) as run_no
  from chosen
)
select charge_id, condition_key, price_id, min(from_date) as from_date, max(to_date) as to_date
from numbered
group by charge_id, condition_key, price_id, run_no
