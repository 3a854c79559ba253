-- pg_restore runs without a search path: a body that is bound when it is made needs none.
create or replace function minor_to_amount(minor bigint, currency text) returns numeric
language sql immutable parallel safe
return minor::numeric(20, 0) / (case currency_digits(currency)
  when 0 then 1 when 2 then 100 when 3 then 1000 else 10000 end)::numeric;
