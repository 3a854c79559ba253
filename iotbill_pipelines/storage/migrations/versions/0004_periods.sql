-- Periods: signatures, and closed months that the database itself keeps as they are.

alter table period add column closings integer not null default 0;

create table period_signature (
  signature_id bigint generated always as identity,
  entity_id text not null,
  period varchar(7) not null,
  action text not null,
  closings integer not null,
  actor text not null,
  role text not null,
  reason text not null,
  signed_at timestamp with time zone not null,
  constraint pk_period_signature primary key (signature_id),
  constraint uq_period_signature_entity_id_period_action_closings_actor
    unique (entity_id, period, action, closings, actor),
  constraint ck_period_signature_action_is_known check (action in ('close', 'reopen')),
  constraint ck_period_signature_reason_is_given check (btrim(reason) <> ''),
  constraint ck_period_signature_actor_is_named check (btrim(actor) <> ''),
  constraint fk_period_signature_entity_id_period
    foreign key (entity_id, period) references period (entity_id, period)
);

create trigger append_only before update or delete on period_signature
  for each statement execute function refuse_change();
create trigger never_emptied before truncate on period_signature
  for each statement execute function refuse_change();

-- A signature is for the period as it stands: `closings` counts how often it was closed, so that
-- what was signed for an earlier reopening does not open it again.
create function check_signature() returns trigger language plpgsql as $$
declare
  held period;
begin
  select * into held from period
  where entity_id = new.entity_id and period = new.period for share;
  if found and (new.closings <> held.closings
     or (new.action = 'reopen' and held.state <> 'closed')
     or (new.action = 'close' and held.state <> 'in_review')) then
    raise exception 'period %/% is % and was closed % times: a signature to % it for closing % '
                    'does not fit', held.entity_id, held.period, held.state, held.closings,
                    new.action, new.closings
      using errcode = 'check_violation';
  end if;
  return new;
end
$$;
create trigger signed_for_the_state before insert on period_signature
  for each row execute function check_signature();

create or replace function check_period_change() returns trigger language plpgsql as $$
declare
  signatures bigint;
begin
  if tg_op = 'INSERT' then
    if new.state <> 'open' or new.closings <> 0 then
      raise exception 'period %/% starts open', new.entity_id, new.period
        using errcode = 'check_violation';
    end if;
    return new;
  end if;
  if tg_op = 'DELETE' then
    raise exception 'period %/% is never deleted', old.entity_id, old.period
      using errcode = 'restrict_violation';
  end if;
  if (new.entity_id, new.period) is distinct from (old.entity_id, old.period) then
    raise exception 'a period keeps its key' using errcode = 'restrict_violation';
  end if;
  if new.closings <> old.closings then
    raise exception 'the database counts closings' using errcode = 'restrict_violation';
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
  if old.state = 'closed' and new.state = 'reopened' then
    select count(distinct actor) into signatures from period_signature
    where entity_id = old.entity_id and period = old.period and action = 'reopen'
      and closings = old.closings;
    if signatures < 2 then
      raise exception 'period %/% is reopened by two people; % signed', old.entity_id, old.period,
                      signatures
        using errcode = 'check_violation',
              hint = 'iotbill period reopen, once by each of them';
    end if;
  end if;
  if new.state = 'closed' and old.state <> 'closed' then
    new.closings := old.closings + 1;
  end if;
  return new;
end
$$;
create trigger starts_open before insert on period
  for each row execute function check_period_change();

-- ------------------------------------------------------------------ what is closed stays

-- Of a closed period a journal still learns what the ERP answered; nothing else changes.
create function check_closed_journal() returns trigger language plpgsql as $$
declare
  held text;
begin
  select p.state into held from period p
  where p.entity_id = old.entity_id and p.period = old.accounting_period for share;
  if held = 'closed' and not (tg_op = 'UPDATE' and old.state = 'exported'
                              and new.state in ('exported', 'acknowledged', 'rejected')) then
    if tg_op = 'UPDATE' and to_jsonb(new) = to_jsonb(old) then
      return new;
    end if;
    raise exception 'period %/% is closed: journal % does not change', old.entity_id,
                    old.accounting_period, old.external_id
      using errcode = 'restrict_violation',
            hint = 'post in the open period, or have the period reopened';
  end if;
  return case when tg_op = 'DELETE' then old else new end;
end
$$;
create trigger closed_periods_stay before update or delete on journal
  for each row execute function check_closed_journal();

-- For the parts of a document: the period is the document's.
create function check_closed_part() returns trigger language plpgsql as $$
declare
  parent text := tg_argv[0];
  parent_key text := tg_argv[1];
  held record;
begin
  for held in execute format(
    'select p.entity_id, p.period from changed_rows c join %I d using (%I)
     join period p on p.entity_id = d.entity_id and p.period = d.accounting_period
     where p.state = ''closed'' limit 1', parent, parent_key)
  loop
    raise exception 'period %/% is closed: % refused on %', held.entity_id, held.period, tg_op,
                    tg_table_name
      using errcode = 'restrict_violation',
            hint = 'post in the open period, or have the period reopened';
  end loop;
  return null;
end
$$;

-- For documents that carry their period themselves.
create function check_closed_document() returns trigger language plpgsql as $$
declare
  held record;
begin
  for held in
    select p.entity_id, p.period from changed_rows c
    join period p on p.entity_id = c.entity_id and p.period = c.accounting_period
    where p.state = 'closed' limit 1
  loop
    raise exception 'period %/% is closed: % refused on %', held.entity_id, held.period, tg_op,
                    tg_table_name
      using errcode = 'restrict_violation',
            hint = 'post in the open period, or have the period reopened';
  end loop;
  return null;
end
$$;

do $$
declare
  part record;
begin
  for part in
    select * from (values ('journal_line', 'journal', 'journal_id'),
                          ('journal_charge', 'journal', 'journal_id'),
                          ('invoice_line', 'invoice', 'invoice_id'),
                          ('vendor_reconciliation_line', 'vendor_reconciliation',
                           'reconciliation_id'),
                          ('vendor_reconciliation_cause', 'vendor_reconciliation',
                           'reconciliation_id')) as t(name, parent, parent_key)
  loop
    execute format('create trigger closed_takes_no_new after insert on %I
                    referencing new table as changed_rows for each statement
                    execute function check_closed_part(%L, %L)', part.name, part.parent,
                   part.parent_key);
    execute format('create trigger closed_changes_nothing after update on %I
                    referencing old table as changed_rows for each statement
                    execute function check_closed_part(%L, %L)', part.name, part.parent,
                   part.parent_key);
    execute format('create trigger closed_loses_nothing after delete on %I
                    referencing old table as changed_rows for each statement
                    execute function check_closed_part(%L, %L)', part.name, part.parent,
                   part.parent_key);
  end loop;
end
$$;

-- A journal of a closed period may still be written for another target; what was written stays.
create trigger closed_changes_nothing after update on journal_export
  referencing old table as changed_rows for each statement
  execute function check_closed_part('journal', 'journal_id');
create trigger closed_loses_nothing after delete on journal_export
  referencing old table as changed_rows for each statement
  execute function check_closed_part('journal', 'journal_id');

create trigger closed_takes_no_new after insert on vendor_reconciliation
  referencing new table as changed_rows for each statement
  execute function check_closed_document();
create trigger closed_changes_nothing after update on vendor_reconciliation
  referencing old table as changed_rows for each statement
  execute function check_closed_document();
create trigger closed_loses_nothing after delete on vendor_reconciliation
  referencing old table as changed_rows for each statement
  execute function check_closed_document();

do $$
declare
  name text;
begin
  foreach name in array array['journal_export', 'vendor_reconciliation',
                              'vendor_reconciliation_line', 'vendor_reconciliation_cause',
                              'legal_entity', 'run', 'feed_file', 'feed_file_outcome', 'dispute']
  loop
    execute format('create trigger never_emptied before truncate on %I
                    for each statement execute function refuse_change()', name);
  end loop;
end
$$;
