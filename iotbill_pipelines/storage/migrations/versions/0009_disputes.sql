-- Claims against vendors: their steps, and the credits that answer them.

create table dispute_event (
  event_id bigint not null generated always as identity,
  dispute_id text not null,
  at timestamptz not null,
  actor text not null,
  status text not null,
  credit_reference text,
  note text not null default '',
  constraint pk_dispute_event primary key (event_id),
  constraint fk_dispute_event_dispute_id foreign key (dispute_id) references dispute (dispute_id),
  constraint ck_dispute_event_status_is_known check
    (status in ('open', 'sent', 'accepted', 'rejected', 'credited', 'withdrawn'))
);
create index ix_dispute_event_dispute_id on dispute_event (dispute_id);
create trigger append_only before update or delete on dispute_event
  for each statement execute function refuse_change();
create trigger never_emptied before truncate on dispute_event
  for each statement execute function refuse_change();

create table dispute_credit (
  file_key bigint not null,
  line_no bigint not null,
  dispute_id text not null,
  accounting_period varchar(7) not null,
  invoice_no text not null,
  currency varchar(3) not null,
  amount_minor bigint not null,
  amount numeric(20, 4) not null
    generated always as (minor_to_amount(amount_minor, currency)) stored,
  matched_by text not null,
  constraint pk_dispute_credit primary key (file_key, line_no, dispute_id),
  constraint fk_dispute_credit_dispute_id foreign key (dispute_id) references dispute (dispute_id),
  constraint ck_dispute_credit_accounting_period_is_a_month
    check (accounting_period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
  constraint ck_dispute_credit_matched_by_is_known check (matched_by in ('reference', 'line')),
  constraint ck_dispute_credit_a_credit_is_positive check (amount_minor > 0)
);
create index ix_dispute_credit_dispute_id on dispute_credit (dispute_id);
