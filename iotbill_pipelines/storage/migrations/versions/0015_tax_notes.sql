-- Notes that correct the taxes of issued invoices; a tax item belongs to an invoice or to a note.

create table tax_note (
  tax_note_id bigint not null,
  note_no text not null,
  run_id text not null,
  invoice_id bigint not null,
  entity_id text not null,
  accounting_period varchar(7) not null,
  issue_date date not null,
  currency varchar(3) not null,
  items integer not null,
  tax_minor bigint not null,
  tax numeric(20, 4) not null generated always as (minor_to_amount(tax_minor, currency)) stored,
  issued_at timestamp with time zone not null,
  constraint pk_tax_note primary key (tax_note_id),
  constraint uq_tax_note_note_no unique (note_no),
  constraint fk_tax_note_run_id foreign key (run_id) references run (run_id),
  constraint fk_tax_note_invoice_id foreign key (invoice_id) references invoice (invoice_id),
  constraint fk_tax_note_entity_id_accounting_period foreign key (entity_id, accounting_period)
    references period (entity_id, period),
  constraint ck_tax_note_accounting_period_is_a_month
    check (accounting_period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
  constraint ck_tax_note_has_items check (items > 0)
);
create index ix_tax_note_accounting_period_entity_id on tax_note (accounting_period, entity_id);
create index ix_tax_note_invoice_id on tax_note (invoice_id);

alter table invoice_tax add column tax_note_id bigint;
alter table invoice_tax add constraint fk_invoice_tax_tax_note_id
  foreign key (tax_note_id) references tax_note (tax_note_id);
create index ix_invoice_tax_tax_note_id on invoice_tax (tax_note_id);

-- Every tax with the document that charges it, and the period that it is posted and declared in.
create view posted_tax as
select t.tax_id, t.invoice_id, t.line_no, t.part_no, t.item_no, t.tax_note_id,
  coalesce(n.note_no, i.invoice_no) as document_no,
  coalesce(n.accounting_period, i.accounting_period) as accounting_period,
  i.entity_id, i.account_id, t.jurisdiction, t.tax, t.rate, t.compound, t.treatment, t.note,
  t.pricing, t.currency, t.taxable_minor, t.base_minor, t.amount_minor
from invoice_tax t
join invoice i using (invoice_id)
left join tax_note n using (tax_note_id);

create trigger append_only before update or delete on tax_note
  for each statement execute function refuse_change();
create trigger never_emptied before truncate on tax_note
  for each statement execute function refuse_change();
create trigger period_takes_rows after insert on tax_note
  referencing new table as new_rows
  for each statement execute function check_period_takes_rows('in_review,closed');

create function check_tax_joins_fresh_document() returns trigger language plpgsql as $$
declare
  wrong record;
begin
  select n.invoice_id, n.line_no into wrong
  from new_rows n
  join invoice i using (invoice_id)
  left join tax_note k on k.tax_note_id = n.tax_note_id
  where (n.tax_note_id is null and i.xmin <> pg_current_xact_id()::xid)
     or (n.tax_note_id is not null
         and (k.xmin <> pg_current_xact_id()::xid or k.invoice_id <> n.invoice_id
              or k.currency <> n.currency))
  limit 1;
  if found then
    raise exception 'invoice %, line %: its document is issued, no taxes are added',
                    wrong.invoice_id, wrong.line_no
      using errcode = 'restrict_violation', hint = 'corrected taxes go on a tax note of their own';
  end if;
  return null;
end
$$;
drop trigger issued_invoices_take_no_taxes on invoice_tax;
create trigger issued_documents_take_no_taxes after insert on invoice_tax
  referencing new table as new_rows
  for each statement execute function check_tax_joins_fresh_document();

create function check_tax_note_total() returns trigger language plpgsql as $$
declare
  summed numeric;
  counted bigint;
begin
  select coalesce(sum(amount_minor), 0), count(*) into summed, counted
  from invoice_tax where tax_note_id = new.tax_note_id;
  if summed <> new.tax_minor or counted <> new.items then
    raise exception 'tax note %: % items of % minor units, header says % of %', new.note_no,
                    counted, summed, new.items, new.tax_minor
      using errcode = 'check_violation';
  end if;
  return null;
end
$$;
create constraint trigger total_is_the_items after insert on tax_note
  deferrable initially deferred
  for each row execute function check_tax_note_total();

do $$
declare
  guard record;
begin
  for guard in
    select t.tgname, c.relname from pg_trigger t join pg_class c on c.oid = t.tgrelid
    where not t.tgisinternal and c.relnamespace = current_schema()::regnamespace
      and t.tgenabled = 'O'
  loop
    execute format('alter table %I enable always trigger %I', guard.relname, guard.tgname);
  end loop;
end
$$;
