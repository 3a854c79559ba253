-- What rows may never do, whoever asks.

-- ------------------------------------------------------------------ append-only tables

create function refuse_change() returns trigger language plpgsql as $$
begin
  raise exception '% is append-only: % refused', tg_table_name, tg_op
    using errcode = 'restrict_violation',
          hint = 'book the difference as new rows; what was booked stays';
end
$$;

do $$
declare
  name text;
begin
  foreach name in array array['booked_charge', 'invoice', 'invoice_line', 'period_event',
                              'gate_result', 'audit_log', 'catalog_version', 'snapshot']
  loop
    execute format('create trigger append_only before update or delete on %I
                    for each statement execute function refuse_change()', name);
    execute format('create trigger never_emptied before truncate on %I
                    for each statement execute function refuse_change()', name);
  end loop;
  foreach name in array array['journal', 'journal_line', 'journal_charge', 'period',
                              'reference_account', 'reference_service',
                              'reference_service_identifier', 'reference_service_state',
                              'reference_service_offer']
  loop
    execute format('create trigger never_emptied before truncate on %I
                    for each statement execute function refuse_change()', name);
  end loop;
end
$$;

-- ------------------------------------------------------------------ periods

create function check_period_change() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' then
    raise exception 'period %/% is never deleted', old.entity_id, old.period
      using errcode = 'restrict_violation';
  end if;
  if (new.entity_id, new.period) is distinct from (old.entity_id, old.period) then
    raise exception 'a period keeps its key' using errcode = 'restrict_violation';
  end if;
  if new.state <> old.state and not (old.state, new.state) in (
       ('open', 'soft_closed'), ('soft_closed', 'open'), ('soft_closed', 'in_review'),
       ('in_review', 'soft_closed'), ('in_review', 'closed'), ('closed', 'reopened'),
       ('reopened', 'soft_closed')) then
    raise exception 'period %/% cannot go from % to %', old.entity_id, old.period,
                    old.state, new.state
      using errcode = 'check_violation',
            hint = 'open - soft_closed - in_review - closed - reopened - soft_closed';
  end if;
  return new;
end
$$;
create trigger state_moves_as_declared before update or delete on period
  for each row execute function check_period_change();

-- Booking locks the period's row, so that it cannot close while its charges are on their way.
create function check_period_takes_rows() returns trigger language plpgsql as $$
declare
  found record;
  frozen text[] := string_to_array(tg_argv[0], ',');
begin
  for found in
    select p.entity_id, p.period, p.state
    from period p
    where (p.entity_id, p.period) in (select n.entity_id, n.accounting_period from new_rows n)
    order by p.entity_id, p.period
    for share of p
  loop
    if found.state = any (frozen) then
      raise exception 'period %/% is %: % takes no new rows', found.entity_id, found.period,
                      found.state, tg_table_name
        using errcode = 'restrict_violation',
              hint = 'post in the open period, or have the period reopened';
    end if;
  end loop;
  return null;
end
$$;
create trigger period_takes_rows after insert on booked_charge
  referencing new table as new_rows
  for each statement execute function check_period_takes_rows('in_review,closed');
create trigger period_takes_rows after insert on invoice
  referencing new table as new_rows
  for each statement execute function check_period_takes_rows('in_review,closed');
create trigger period_takes_rows after insert on journal
  referencing new table as new_rows
  for each statement execute function check_period_takes_rows('closed');

-- ------------------------------------------------------------------ invoices

create function check_invoice_lines() returns trigger language plpgsql as $$
declare
  wrong record;
begin
  select n.invoice_id, n.line_no into wrong
  from new_rows n
  join invoice i using (invoice_id)
  join booked_charge b on b.id = n.booked_charge_id
  where n.amount_minor <> b.amount_minor or n.currency <> b.currency
     or i.currency <> b.currency or i.account_id <> b.account_id
     or i.entity_id <> b.entity_id or b.level <> 'retail'
  limit 1;
  if found then
    raise exception 'invoice %, line %: differs from its booked charge', wrong.invoice_id,
                    wrong.line_no
      using errcode = 'check_violation';
  end if;
  return null;
end
$$;
create trigger lines_are_their_charges after insert on invoice_line
  referencing new table as new_rows
  for each statement execute function check_invoice_lines();

create function check_invoice_total() returns trigger language plpgsql as $$
declare
  summed numeric;
  counted bigint;
begin
  select coalesce(sum(amount_minor), 0), count(*) into summed, counted
  from invoice_line where invoice_id = new.invoice_id;
  if summed <> new.total_minor or counted <> new.lines then
    raise exception 'invoice %: % lines of % minor units, header says % of %', new.invoice_no,
                    counted, summed, new.lines, new.total_minor
      using errcode = 'check_violation';
  end if;
  return null;
end
$$;
create constraint trigger total_is_the_lines after insert on invoice
  deferrable initially deferred
  for each row execute function check_invoice_total();

create function check_line_joins_fresh_invoice() returns trigger language plpgsql as $$
declare
  changed bigint;
begin
  -- a line that comes after its invoice was committed would change an issued document
  for changed in
    select distinct n.invoice_id from new_rows n join invoice i using (invoice_id)
    where i.xmin <> pg_current_xact_id()::xid
  loop
    raise exception 'invoice % is issued: no lines are added', changed
      using errcode = 'restrict_violation',
            hint = 'further charges go on a supplementary invoice';
  end loop;
  return null;
end
$$;
create trigger issued_invoices_take_no_lines after insert on invoice_line
  referencing new table as new_rows
  for each statement execute function check_line_joins_fresh_invoice();

-- ------------------------------------------------------------------ journals

create function check_journal_balance() returns trigger language plpgsql as $$
declare
  wrong record;
begin
  if not exists (select 1 from journal where journal_id = new.journal_id) then
    return null;
  end if;
  for wrong in
    select currency, sum(debit_minor) as debits, sum(credit_minor) as credits
    from journal_line where journal_id = new.journal_id
    group by currency having sum(debit_minor) <> sum(credit_minor)
  loop
    raise exception 'journal %: debits % and credits % (minor units of %) differ',
                    new.external_id, wrong.debits, wrong.credits, wrong.currency
      using errcode = 'check_violation';
  end loop;
  if (select count(*) from journal_line where journal_id = new.journal_id) < 2 then
    raise exception 'journal %: needs at least two lines', new.external_id
      using errcode = 'check_violation';
  end if;
  return null;
end
$$;
create constraint trigger debits_equal_credits after insert or update on journal
  deferrable initially deferred
  for each row execute function check_journal_balance();

-- Once per statement, not per line: the touched journals are checked when the transaction ends.
create function recheck_journals() returns trigger language plpgsql as $$
begin
  update journal set state = state
  where journal_id in (select distinct journal_id from changed_rows);
  return null;
end
$$;
create trigger lines_are_balanced after insert on journal_line
  referencing new table as changed_rows
  for each statement execute function recheck_journals();
create trigger remaining_lines_are_balanced after delete on journal_line
  referencing old table as changed_rows
  for each statement execute function recheck_journals();

create function check_journal_change() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' then
    if old.state <> 'built' then
      raise exception 'journal % is %: not deleted', old.external_id, old.state
        using errcode = 'restrict_violation',
              hint = 'what changed since goes into a new revision';
    end if;
    return old;
  end if;
  if (to_jsonb(new) - array['state', 'exported_at', 'answered_at', 'answer'])
     is distinct from (to_jsonb(old) - array['state', 'exported_at', 'answered_at', 'answer']) then
    raise exception 'journal %: only its state changes', old.external_id
      using errcode = 'restrict_violation';
  end if;
  if new.state <> old.state and not (old.state, new.state) in (
       ('built', 'exported'), ('exported', 'acknowledged'), ('exported', 'rejected'),
       ('rejected', 'exported')) then
    raise exception 'journal % cannot go from % to %', old.external_id, old.state, new.state
      using errcode = 'check_violation';
  end if;
  return new;
end
$$;
create trigger only_state_changes before update or delete on journal
  for each row execute function check_journal_change();

create function check_journal_parts() returns trigger language plpgsql as $$
declare
  fixed text;
begin
  -- when a journal is deleted with its parts, its row is gone already: then it was a built one
  select j.external_id into fixed from journal j
  where j.state <> 'built' and j.journal_id in (select distinct journal_id from changed_rows)
  limit 1;
  if found then
    raise exception 'journal % is exported: its % rows do not change', fixed, tg_table_name
      using errcode = 'restrict_violation',
            hint = 'what changed since goes into a new revision';
  end if;
  return null;
end
$$;
do $$
declare
  name text;
begin
  foreach name in array array['journal_line', 'journal_charge']
  loop
    execute format('create trigger append_only before update on %I
                    for each statement execute function refuse_change()', name);
    execute format('create trigger fixed_once_exported after insert on %I
                    referencing new table as changed_rows
                    for each statement execute function check_journal_parts()', name);
    execute format('create trigger kept_once_exported after delete on %I
                    referencing old table as changed_rows
                    for each statement execute function check_journal_parts()', name);
  end loop;
end
$$;

-- ------------------------------------------------------------------ reference data

create function check_reference_change() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' then
    raise exception '% keeps its history: DELETE refused', tg_table_name
      using errcode = 'restrict_violation';
  end if;
  if old.known_to is not null or new.known_to is null
     or (to_jsonb(new) - 'known_to') is distinct from (to_jsonb(old) - 'known_to') then
    raise exception '% keeps its history: only known_to is set, once', tg_table_name
      using errcode = 'restrict_violation';
  end if;
  return new;
end
$$;
create trigger keeps_history before update or delete on reference_account
  for each row execute function check_reference_change();
create trigger keeps_history before update or delete on reference_service
  for each row execute function check_reference_change();
create trigger keeps_history before update or delete on reference_service_identifier
  for each row execute function check_reference_change();
create trigger keeps_history before update or delete on reference_service_state
  for each row execute function check_reference_change();
create trigger keeps_history before update or delete on reference_service_offer
  for each row execute function check_reference_change();

-- ------------------------------------------------------------------ vendor reconciliation

create function check_causes() returns trigger language plpgsql as $$
declare
  line vendor_reconciliation_line;
  explained numeric;
begin
  select * into line from vendor_reconciliation_line
  where reconciliation_id = case when tg_op = 'DELETE' then old.reconciliation_id
                                 else new.reconciliation_id end
    and line_no = case when tg_op = 'DELETE' then old.line_no else new.line_no end;
  if not found then
    return null;
  end if;
  select coalesce(sum(amount_minor), 0) into explained from vendor_reconciliation_cause
  where reconciliation_id = line.reconciliation_id and line_no = line.line_no;
  if explained <> line.variance_minor then
    raise exception 'reconciliation %, line %: causes add up to %, variance is %',
                    line.reconciliation_id, line.line_no, explained, line.variance_minor
      using errcode = 'check_violation';
  end if;
  return null;
end
$$;
create constraint trigger causes_explain_the_variance after insert or update
  on vendor_reconciliation_line deferrable initially deferred
  for each row execute function check_causes();
create constraint trigger causes_explain_the_variance after insert or update or delete
  on vendor_reconciliation_cause deferrable initially deferred
  for each row execute function check_causes();

-- ------------------------------------------------------------------ audit log

-- The text that a row's hash covers; fields are separated by a character that JSON escapes.
create function audit_payload(entry audit_log) returns text
language sql stable as $$
  select concat_ws(E'\x1f', entry.previous_hash, entry.seq,
    to_char(entry.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    entry.actor, entry.action, entry.subject, entry.detail::text, entry.input_hashes::text)
$$;

create function chain_audit_entry() returns trigger language plpgsql as $$
declare
  last record;
begin
  perform pg_advisory_xact_lock(hashtext('audit_log'));
  select seq, hash into last from audit_log order by seq desc limit 1;
  new.seq := coalesce(last.seq, 0) + 1;
  new.previous_hash := coalesce(last.hash, repeat('0', 64));
  new.hash := encode(sha256(convert_to(audit_payload(new), 'UTF8')), 'hex');
  return new;
end
$$;
create trigger chained before insert on audit_log
  for each row execute function chain_audit_entry();
