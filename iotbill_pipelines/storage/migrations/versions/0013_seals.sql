-- Guards that stay on, seals of closed periods, several signatures under a closing.

-- A person signs again for closing a period that was sent back from review in between.
alter table period_signature
  drop constraint uq_period_signature_entity_id_period_action_closings_actor;
create unique index uq_period_signature_reopen
  on period_signature (entity_id, period, closings, actor) where action = 'reopen';

-- What a closed period holds, whatever the order of its rows. A journal's state and the ERP's answer
-- are not part of it: they are learnt later.
create function period_seal(sealed_entity text, sealed_period text) returns text
language sql stable as $$
  with told as (
    select 'booked' as kind, concat_ws(E'\x1f', id, entry_no, level, account_id, service_id,
      charge_id, product_id, kind, gl_class, tax_code, usage_period, billing_period, records,
      quantity, currency, amount_minor, reason) as content
    from booked_charge where entity_id = sealed_entity and accounting_period = sealed_period
    union all
    select 'invoice', concat_ws(E'\x1f', i.invoice_no, i.account_id, i.billing_period, i.currency,
      i.lines, i.total_minor, l.line_no, l.booked_charge_id, l.amount_minor)
    from invoice i left join invoice_line l using (invoice_id)
    where i.entity_id = sealed_entity and i.accounting_period = sealed_period
    union all
    select 'journal', concat_ws(E'\x1f', j.external_id, j.journal_type, j.revision, j.currency,
      j.journal_date, l.line_no, l.account, l.debit_minor, l.credit_minor,
      l.functional_debit_minor, l.functional_credit_minor)
    from journal j left join journal_line l using (journal_id)
    where j.entity_id = sealed_entity and j.accounting_period = sealed_period
  )
  select encode(sha256(convert_to(coalesce(string_agg(part, E'\n' order by part), ''), 'UTF8')),
                'hex')
  from (
    -- the exact sum of 60-bit hashes: equal rows count as often as they are there
    select concat_ws(' ', kind, count(*),
      sum(('x' || substr(md5(content), 1, 15))::bit(60)::bigint)) as part
    from told group by kind
  ) as parts
$$;

-- Replication roles switch ordinary triggers off for a session; these stay on.
do $$
declare
  guard record;
begin
  for guard in
    select t.tgname, c.relname from pg_trigger t join pg_class c on c.oid = t.tgrelid
    join pg_namespace n on n.oid = c.relnamespace
    where not t.tgisinternal and n.nspname = current_schema()
  loop
    execute format('alter table %I enable always trigger %I', guard.relname, guard.tgname);
  end loop;
end
$$;

-- Nobody switches a guard off or removes it, not even the tables' owner; migrations may. Only a
-- superuser can make such triggers: elsewhere `iotbill audit verify` still tells.
create function refuse_weakening() returns event_trigger language plpgsql as $$
declare
  found record;
begin
  if coalesce(current_setting('iotbill.migrating', true), '') = 'on' then
    return;
  end if;
  if tg_event = 'sql_drop' then
    for found in
      select object_identity from pg_event_trigger_dropped_objects()
      where original and schema_name = 'public'
        and object_type in ('trigger', 'table', 'function', 'table constraint')
    loop
      raise exception '% keeps the ledger as it is: % refused', found.object_identity, tg_tag
        using errcode = 'restrict_violation', hint = 'only a migration changes the schema';
    end loop;
  else
    for found in
      select t.tgname, c.relname from pg_trigger t join pg_class c on c.oid = t.tgrelid
      join pg_namespace n on n.oid = c.relnamespace
      where not t.tgisinternal and n.nspname = 'public' and t.tgenabled in ('D', 'R')
    loop
      raise exception 'trigger % of % keeps the ledger as it is: % refused', found.tgname,
                      found.relname, tg_tag
        using errcode = 'restrict_violation', hint = 'only a migration changes the schema';
    end loop;
  end if;
end
$$;
do $$
begin
  if (select rolsuper from pg_roles where rolname = current_user)
     and current_schema() = 'public' then
    create event trigger guards_stay_on on ddl_command_end when tag in ('ALTER TABLE')
      execute function refuse_weakening();
    create event trigger guards_stay_there on sql_drop
      when tag in ('DROP TRIGGER', 'DROP TABLE', 'DROP FUNCTION', 'ALTER TABLE')
      execute function refuse_weakening();
  end if;
end
$$;
