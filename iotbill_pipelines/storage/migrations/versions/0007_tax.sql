-- Taxes on invoice lines; written with the invoice, never afterwards.

create table invoice_tax (
  tax_id bigint not null,
  invoice_id bigint not null,
  line_no bigint not null,
  part_no integer not null,
  item_no integer not null,
  jurisdiction text not null,
  tax text not null,
  rate numeric(30, 12) not null,
  compound boolean not null,
  apply_order integer not null,
  treatment text not null,
  note text not null,
  pricing text not null,
  currency varchar(3) not null,
  taxable_minor bigint not null,
  base_minor bigint not null,
  amount_minor bigint not null,
  base numeric(20, 4) not null generated always as (minor_to_amount(base_minor, currency)) stored,
  amount numeric(20, 4) not null
    generated always as (minor_to_amount(amount_minor, currency)) stored,
  constraint pk_invoice_tax primary key (tax_id),
  constraint uq_invoice_tax_invoice_id_line_no_part_no_item_no
    unique (invoice_id, line_no, part_no, item_no),
  constraint fk_invoice_tax_invoice_id foreign key (invoice_id) references invoice (invoice_id),
  constraint ck_invoice_tax_treatment_is_known
    check (treatment in ('taxed', 'exempt', 'reverse_charge')),
  constraint ck_invoice_tax_pricing_is_known check (pricing in ('exclusive', 'inclusive')),
  constraint ck_invoice_tax_only_taxed_has_an_amount
    check (treatment = 'taxed' or amount_minor = 0),
  constraint ck_invoice_tax_an_untaxed_base_has_a_reason
    check (treatment = 'taxed' or btrim(note) <> '')
);

create table journal_tax (
  tax_id bigint not null,
  journal_type text not null,
  journal_id bigint not null,
  debit_line_no bigint,
  credit_line_no bigint,
  constraint pk_journal_tax primary key (tax_id, journal_type),
  constraint fk_journal_tax_tax_id foreign key (tax_id) references invoice_tax (tax_id),
  constraint fk_journal_tax_journal_id foreign key (journal_id)
    references journal (journal_id) on delete cascade,
  constraint fk_journal_tax_journal_id_debit_line_no foreign key (journal_id, debit_line_no)
    references journal_line (journal_id, line_no) on delete cascade,
  constraint fk_journal_tax_journal_id_credit_line_no foreign key (journal_id, credit_line_no)
    references journal_line (journal_id, line_no) on delete cascade
);
create index ix_journal_tax_journal_id on journal_tax (journal_id);

create trigger append_only before update or delete on invoice_tax
  for each statement execute function refuse_change();
create trigger never_emptied before truncate on invoice_tax
  for each statement execute function refuse_change();
-- The line by trigger, not by key: so nothing but its own trigger answers who empties invoice_line.
create function check_invoice_taxes() returns trigger language plpgsql as $$
declare
  wrong record;
begin
  select n.invoice_id, n.line_no into wrong
  from new_rows n left join invoice_line l using (invoice_id, line_no)
  where l.invoice_id is null or l.currency <> n.currency
  limit 1;
  if found then
    raise exception 'invoice %, line %: a tax of a line that is not there', wrong.invoice_id,
                    wrong.line_no
      using errcode = 'foreign_key_violation';
  end if;
  return null;
end
$$;
create trigger taxes_have_lines after insert on invoice_tax
  referencing new table as new_rows
  for each statement execute function check_invoice_taxes();
create trigger issued_invoices_take_no_taxes after insert on invoice_tax
  referencing new table as new_rows
  for each statement execute function check_line_joins_fresh_invoice();

create trigger append_only before update on journal_tax
  for each statement execute function refuse_change();
create trigger never_emptied before truncate on journal_tax
  for each statement execute function refuse_change();
create trigger fixed_once_exported after insert on journal_tax
  referencing new table as changed_rows
  for each statement execute function check_journal_parts();
create trigger kept_once_exported after delete on journal_tax
  referencing old table as changed_rows
  for each statement execute function check_journal_parts();
create trigger closed_takes_no_new after insert on journal_tax
  referencing new table as changed_rows
  for each statement execute function check_closed_part('journal', 'journal_id');
create trigger closed_loses_nothing after delete on journal_tax
  referencing old table as changed_rows
  for each statement execute function check_closed_part('journal', 'journal_id');
