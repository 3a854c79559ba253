-- What each product carries of vendors' cost, by usage period: apportioned by the program, read by marts.

create table product_cost (
  usage_period varchar(7) not null,
  product_id text not null,
  currency varchar(3) not null,
  amount_minor bigint not null,
  amount numeric(20, 4) not null
    generated always as (minor_to_amount(amount_minor, currency)) stored,
  constraint pk_product_cost primary key (usage_period, product_id, currency)
);
