-- What the general ledger says of our accounts, and what explains a difference (CL-04).

create table gl_entry (
  entity_id text not null,
  period varchar(7) not null,
  entry_no integer not null,
  account text not null,
  currency varchar(3) not null,
  kind text not null,
  amount_minor bigint not null,
  amount numeric(20, 4) not null
    generated always as (minor_to_amount(amount_minor, currency)) stored,
  reference text not null,
  source text not null,
  actor text not null,
  recorded_at timestamp with time zone not null,
  constraint pk_gl_entry primary key (entity_id, period, entry_no),
  constraint ck_gl_entry_period_is_a_month check (period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
  constraint ck_gl_entry_kind_is_known
    check (kind in ('balance', 'opening', 'payment', 'credit', 'other', 'explanation')),
  constraint ck_gl_entry_an_explanation_has_a_reason
    check (kind <> 'explanation' or btrim(reference) <> ''),
  constraint fk_gl_entry_entity_id_period
    foreign key (entity_id, period) references period (entity_id, period)
);
create unique index uq_gl_entry_balance on gl_entry (entity_id, period, account, currency)
  where kind = 'balance';

create function check_gl_entry() returns trigger language plpgsql as $$
declare
  held record;
begin
  for held in
    select p.entity_id, p.period from changed_rows c
    join period p on p.entity_id = c.entity_id and p.period = c.period
    where p.state = 'closed' limit 1
  loop
    raise exception 'period %/% is closed: % refused on gl_entry', held.entity_id, held.period,
                    tg_op
      using errcode = 'restrict_violation',
            hint = 'have the period reopened';
  end loop;
  return null;
end
$$;
create trigger closed_takes_no_new after insert on gl_entry
  referencing new table as changed_rows for each statement execute function check_gl_entry();
create trigger closed_loses_nothing after delete on gl_entry
  referencing old table as changed_rows for each statement execute function check_gl_entry();
create trigger append_only before update on gl_entry
  for each statement execute function refuse_change();
create trigger never_emptied before truncate on gl_entry
  for each statement execute function refuse_change();

-- An explanation is signed: it is taken back by another one, never removed.
create function keep_explanations() returns trigger language plpgsql as $$
begin
  if old.kind = 'explanation' then
    raise exception 'an explanation is taken back by another one, not removed'
      using errcode = 'restrict_violation';
  end if;
  return old;
end
$$;
create trigger explanations_stay before delete on gl_entry
  for each row execute function keep_explanations();
