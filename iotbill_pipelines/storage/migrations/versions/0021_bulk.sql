-- A month books a million charges in one statement. A foreign key asks once a row; these guards ask
-- once a statement and refuse the same, under the same names. What they refer to cannot go: charges,
-- invoices and snapshots are append-only, periods and runs are never deleted and keep their keys,
-- and a journal takes its links with it.

create function check_run_change() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' then
    raise exception 'run % is never deleted', old.run_id using errcode = 'restrict_violation';
  end if;
  if new.run_id <> old.run_id then
    raise exception 'a run keeps its id' using errcode = 'restrict_violation';
  end if;
  return new;
end
$$;
create trigger never_deleted before delete or update of run_id on run
  for each row execute function check_run_change();

create function refuse_dangling(referring text, missing text, constraint_name text) returns void
language plpgsql as $$
begin
  raise exception 'insert on table "%" violates foreign key constraint "%"', referring,
                  constraint_name
    using errcode = 'foreign_key_violation', constraint = constraint_name,
          detail = missing || ' does not exist';
end
$$;

-- ------------------------------------------------------------------ booked charges

alter table booked_charge
  drop constraint fk_booked_charge_run_id,
  drop constraint fk_booked_charge_snapshot_id,
  drop constraint fk_booked_charge_entity_id_accounting_period;
drop index ix_booked_charge_accounting_period_entity_id_level;
-- Rows of an accounting period lie together: they are booked together and never move.
create index ix_booked_charge_accounting_period on booked_charge
  using brin (accounting_period) with (autosummarize = on);

create function check_charges_refer() returns trigger language plpgsql as $$
declare
  missing text;
begin
  select n.run_id into missing from (select distinct run_id from new_rows) n
  where not exists (select from run r where r.run_id = n.run_id) limit 1;
  if found then
    perform refuse_dangling('booked_charge', 'run ' || missing, 'fk_booked_charge_run_id');
  end if;
  select n.snapshot_id into missing
  from (select distinct snapshot_id from new_rows where snapshot_id is not null) n
  where not exists (select from snapshot s where s.snapshot_id = n.snapshot_id) limit 1;
  if found then
    perform refuse_dangling('booked_charge', 'snapshot ' || missing,
                            'fk_booked_charge_snapshot_id');
  end if;
  select n.entity_id || '/' || n.accounting_period into missing
  from (select distinct entity_id, accounting_period from new_rows) n
  where not exists (select from period p
                    where p.entity_id = n.entity_id and p.period = n.accounting_period) limit 1;
  if found then
    perform refuse_dangling('booked_charge', 'period ' || missing,
                            'fk_booked_charge_entity_id_accounting_period');
  end if;
  return null;
end
$$;
create trigger charges_refer after insert on booked_charge
  referencing new table as new_rows
  for each statement execute function check_charges_refer();

-- ------------------------------------------------------------------ invoice lines

alter table invoice_line
  drop constraint fk_invoice_line_invoice_id,
  drop constraint fk_invoice_line_booked_charge_id;

create or replace function check_invoice_lines() returns trigger language plpgsql as $$
declare
  wrong record;
begin
  select n.invoice_id, n.line_no, i.invoice_id is null as no_invoice, b.id is null as no_charge
  into wrong
  from new_rows n
  left join invoice i on i.invoice_id = n.invoice_id
  left join booked_charge b on b.id = n.booked_charge_id
  where i.invoice_id is null or b.id is null
     or n.amount_minor <> b.amount_minor or n.currency <> b.currency
     or i.currency <> b.currency or i.account_id <> b.account_id
     or i.entity_id <> b.entity_id or b.level <> 'retail'
  limit 1;
  if found then
    if wrong.no_invoice then
      perform refuse_dangling('invoice_line', 'invoice ' || wrong.invoice_id,
                              'fk_invoice_line_invoice_id');
    elsif wrong.no_charge then
      perform refuse_dangling('invoice_line', 'the charge of line ' || wrong.line_no,
                              'fk_invoice_line_booked_charge_id');
    end if;
    raise exception 'invoice %, line %: differs from its booked charge', wrong.invoice_id,
                    wrong.line_no
      using errcode = 'check_violation';
  end if;
  return null;
end
$$;

-- ------------------------------------------------------------------ journal links

alter table journal_charge
  drop constraint fk_journal_charge_booked_charge_id,
  drop constraint fk_journal_charge_journal_id,
  drop constraint fk_journal_charge_journal_id_debit_line_no,
  drop constraint fk_journal_charge_journal_id_credit_line_no;
drop index ix_journal_charge_journal_id_debit_line_no;
drop index ix_journal_charge_journal_id_credit_line_no;
create index ix_journal_charge_journal_id on journal_charge
  using brin (journal_id) with (autosummarize = on);

create function check_links_refer() returns trigger language plpgsql as $$
declare
  wrong record;
begin
  -- locked, so that a journal and its lines stay until its links are committed
  perform 1 from journal j
  where j.journal_id in (select distinct journal_id from new_rows)
  order by j.journal_id for key share;
  select n.journal_id into wrong from (select distinct journal_id from new_rows) n
  where not exists (select from journal j where j.journal_id = n.journal_id) limit 1;
  if found then
    perform refuse_dangling('journal_charge', 'journal ' || wrong.journal_id,
                            'fk_journal_charge_journal_id');
  end if;
  select n.journal_id, n.line_no into wrong
  from (select distinct journal_id, debit_line_no as line_no from new_rows
        union select distinct journal_id, credit_line_no from new_rows) n
  where n.line_no is not null and not exists (
    select from journal_line l where l.journal_id = n.journal_id and l.line_no = n.line_no)
  limit 1;
  if found then
    perform refuse_dangling('journal_charge',
                            'line ' || wrong.line_no || ' of journal ' || wrong.journal_id,
                            'fk_journal_charge_journal_id_line_no');
  end if;
  select n.booked_charge_id as id into wrong from new_rows n
  left join booked_charge b on b.id = n.booked_charge_id
  where b.id is null limit 1;
  if found then
    perform refuse_dangling('journal_charge', 'charge ' || wrong.id,
                            'fk_journal_charge_booked_charge_id');
  end if;
  return null;
end
$$;
create trigger links_refer after insert on journal_charge
  referencing new table as new_rows
  for each statement execute function check_links_refer();

create function unlink_charges() returns trigger language plpgsql as $$
begin
  if tg_table_name = 'journal' then
    delete from journal_charge c using old_rows o where c.journal_id = o.journal_id;
  else
    delete from journal_charge c using old_rows o where c.journal_id = o.journal_id
      and o.line_no in (c.debit_line_no, c.credit_line_no);
  end if;
  return null;
end
$$;
create trigger takes_its_links after delete on journal
  referencing old table as old_rows
  for each statement execute function unlink_charges();
create trigger takes_its_links after delete on journal_line
  referencing old table as old_rows
  for each statement execute function unlink_charges();

do $$
declare
  guard record;
begin
  for guard in
    select t.tgname, c.relname from pg_trigger t join pg_class c on c.oid = t.tgrelid
    where not t.tgisinternal and t.tgenabled = 'O' and c.relnamespace = current_schema()::regnamespace
  loop
    execute format('alter table %I enable always trigger %I', guard.relname, guard.tgname);
  end loop;
end
$$;
