-- What follows from charges and is booked beside them, by difference (RULEBOOK §§7, 9).

create table derived_entry (
  entry_id bigint not null,
  purpose text not null,
  item text not null,
  entry_no integer not null,
  run_id text not null,
  level text not null,
  entity_id text not null,
  accounting_period varchar(7) not null,
  account_id text not null,
  service_id text not null,
  product_id text not null,
  kind text not null,
  gl_class text not null,
  tax_code text not null,
  currency varchar(3) not null,
  amount_minor bigint not null,
  amount numeric(20, 4) not null
    generated always as (minor_to_amount(amount_minor, currency)) stored,
  booked_charge_id bigint,
  version text not null,
  explanation text not null,
  booked_at timestamp with time zone not null,
  constraint pk_derived_entry primary key (entry_id),
  constraint uq_derived_entry_entry unique (purpose, item, entry_no),
  constraint fk_derived_entry_entity_id_accounting_period
    foreign key (entity_id, accounting_period) references period (entity_id, period),
  constraint fk_derived_entry_run_id foreign key (run_id) references run (run_id),
  constraint ck_derived_entry_accounting_period_is_a_month
    check (accounting_period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
  constraint ck_derived_entry_purpose_is_known
    check (purpose in ('deferral', 'release', 'allocation', 'commission', 'true_up')),
  constraint ck_derived_entry_level_is_known check (level in ('retail', 'wholesale', 'vendor')),
  constraint ck_derived_entry_books_something check (amount_minor <> 0),
  constraint ck_derived_entry_entry_no_starts_at_one check (entry_no > 0)
);
create index ix_derived_entry_accounting_period_purpose
  on derived_entry (accounting_period, purpose);

create table journal_derived (
  entry_id bigint not null,
  journal_type text not null,
  journal_id bigint not null,
  debit_line_no bigint,
  credit_line_no bigint,
  constraint pk_journal_derived primary key (entry_id, journal_type),
  constraint fk_journal_derived_entry_id foreign key (entry_id)
    references derived_entry (entry_id),
  constraint fk_journal_derived_journal_id foreign key (journal_id)
    references journal (journal_id) on delete cascade,
  constraint fk_journal_derived_journal_id_debit_line_no foreign key (journal_id, debit_line_no)
    references journal_line (journal_id, line_no) on delete cascade,
  constraint fk_journal_derived_journal_id_credit_line_no foreign key (journal_id, credit_line_no)
    references journal_line (journal_id, line_no) on delete cascade
);
create index ix_journal_derived_journal_id on journal_derived (journal_id);

create trigger append_only before update or delete on derived_entry
  for each statement execute function refuse_change();
create trigger never_emptied before truncate on derived_entry
  for each statement execute function refuse_change();
create trigger period_takes_rows after insert on derived_entry
  referencing new table as new_rows
  for each statement execute function check_period_takes_rows('closed');

create trigger append_only before update on journal_derived
  for each statement execute function refuse_change();
create trigger never_emptied before truncate on journal_derived
  for each statement execute function refuse_change();
create trigger fixed_once_exported after insert on journal_derived
  referencing new table as changed_rows
  for each statement execute function check_journal_parts();
create trigger kept_once_exported after delete on journal_derived
  referencing old table as changed_rows
  for each statement execute function check_journal_parts();
create trigger closed_takes_no_new after insert on journal_derived
  referencing new table as changed_rows
  for each statement execute function check_closed_part('journal', 'journal_id');
create trigger closed_loses_nothing after delete on journal_derived
  referencing old table as changed_rows
  for each statement execute function check_closed_part('journal', 'journal_id');
