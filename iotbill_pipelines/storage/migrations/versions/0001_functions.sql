-- Decimals of a currency's minor unit (ISO 4217); the same list as engine.money.MINOR_DIGITS,
-- which a test compares. Not declared strict: PostgreSQL could not inline it then, and it runs for
-- every booked row.
create function currency_digits(currency text) returns integer
language sql immutable parallel safe as $$
  select case
    when currency in ('BIF','CLP','DJF','GNF','ISK','JPY','KMF','KRW','PYG','RWF','UGX','UYI',
                      'VND','VUV','XAF','XOF','XPF') then 0
    when currency in ('BHD','IQD','JOD','KWD','LYD','OMR','TND') then 3
    when currency in ('CLF','UYW') then 4
    else 2
  end
$$;

-- Minor units in the currency's own unit; exact, since no currency has more than four decimals.
create function minor_to_amount(minor bigint, currency text) returns numeric
language sql immutable parallel safe as $$
  select minor::numeric(20, 0) / (case currency_digits(currency)
    when 0 then 1 when 2 then 100 when 3 then 1000 else 10000 end)::numeric
$$;
