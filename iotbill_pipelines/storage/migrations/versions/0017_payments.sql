-- Payments of invoices: what is earned on collected amounts rests on them. Append-only.

create table payment (
  payment_id bigint not null,
  invoice_id bigint not null,
  reference text not null,
  received_on date not null,
  currency varchar(3) not null,
  amount_minor bigint not null,
  amount numeric(20, 4) not null
    generated always as (minor_to_amount(amount_minor, currency)) stored,
  source text not null,
  actor text not null,
  recorded_at timestamp with time zone not null,
  constraint pk_payment primary key (payment_id),
  constraint uq_payment_invoice_id_reference unique (invoice_id, reference),
  constraint fk_payment_invoice_id foreign key (invoice_id) references invoice (invoice_id),
  constraint ck_payment_pays_something check (amount_minor <> 0),
  constraint ck_payment_has_a_reference check (btrim(reference) <> '')
);

create trigger append_only before update or delete on payment
  for each statement execute function refuse_change();
create trigger never_emptied before truncate on payment
  for each statement execute function refuse_change();
alter table payment enable always trigger append_only;
alter table payment enable always trigger never_emptied;
