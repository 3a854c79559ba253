-- Journals: functional currency, balanced units, accruals and their reversals, answers of the ERP.

alter table journal add column is_accrual boolean not null default false;
alter table journal add column reverses_id bigint;
alter table journal add constraint fk_journal_reverses_id
  foreign key (reverses_id) references journal (journal_id);
alter table journal add constraint uq_journal_reverses_id unique (reverses_id);

alter table journal_line disable trigger user;
alter table journal_line
  add column unit text not null default '',
  add column functional_currency varchar(3),
  add column functional_debit_minor bigint not null default 0,
  add column functional_credit_minor bigint not null default 0,
  add column fx_rate numeric(24, 12) not null default 1,
  add column fx_date date,
  add column fx_source text;
-- What was posted so far was posted in one currency.
update journal_line set functional_currency = currency, functional_debit_minor = debit_minor,
  functional_credit_minor = credit_minor;
alter table journal_line
  alter column functional_currency set not null,
  add column functional_debit numeric(20, 4) not null
    generated always as (minor_to_amount(functional_debit_minor, functional_currency)) stored,
  add column functional_credit numeric(20, 4) not null
    generated always as (minor_to_amount(functional_credit_minor, functional_currency)) stored,
  drop constraint ck_journal_line_one_side_only,
  drop constraint ck_journal_line_no_negative_side,
  add constraint ck_journal_line_no_negative_side check (
    debit_minor >= 0 and credit_minor >= 0
    and functional_debit_minor >= 0 and functional_credit_minor >= 0),
  add constraint ck_journal_line_one_side_only check (
    (debit_minor > 0 or functional_debit_minor > 0)
    <> (credit_minor > 0 or functional_credit_minor > 0)),
  add constraint ck_journal_line_fx_rate_is_positive check (fx_rate > 0);
alter table journal_line enable trigger user;

-- An accrual carries a charge as long as it is unbilled, month after month, and takes it out again
-- (sign -1); any other type carries it once, for good.
alter table journal_charge disable trigger user;
alter table journal_charge
  add column accrued_in varchar(7) not null default '',
  add column sign smallint not null default 1,
  drop constraint pk_journal_charge,
  add constraint pk_journal_charge primary key (booked_charge_id, journal_id),
  add constraint ck_journal_charge_sign_is_one check (sign in (1, -1)),
  add constraint ck_journal_charge_only_accruals_repeat
    check (accrued_in <> '' or sign = 1);
create unique index uq_journal_charge_once on journal_charge (booked_charge_id, journal_type)
  where accrued_in = '';
create index ix_journal_charge_journal_type_accrued_in on journal_charge (journal_type, accrued_in)
  where accrued_in <> '';
alter table journal_charge enable trigger user;

alter table journal_export add column documents text[] not null default '{}';

-- Amounts for usage that is missing (CL-06); a correction is another row.
create table accrual_estimate (
  estimate_id bigint not null,
  entity_id text not null,
  accounting_period varchar(7) not null,
  level text not null,
  account_id text not null,
  product_id text not null,
  kind text not null,
  gl_class text not null,
  tax_code text not null,
  currency varchar(3) not null,
  missing_days integer not null,
  per_day_minor bigint not null,
  amount_minor bigint not null,
  amount numeric(20, 4) not null
    generated always as (minor_to_amount(amount_minor, currency)) stored,
  reason text not null,
  actor text not null,
  recorded_at timestamp with time zone not null,
  constraint pk_accrual_estimate primary key (estimate_id),
  constraint fk_accrual_estimate_entity_id_accounting_period
    foreign key (entity_id, accounting_period) references period (entity_id, period),
  constraint ck_accrual_estimate_accounting_period_is_a_month
    check (accounting_period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
  constraint ck_accrual_estimate_level_is_known check (level in ('retail', 'vendor')),
  constraint ck_accrual_estimate_amount_is_days_times_rate
    check (amount_minor = missing_days * per_day_minor and amount_minor <> 0),
  constraint ck_accrual_estimate_reason_is_given check (btrim(reason) <> '')
);
create index ix_accrual_estimate_accounting_period on accrual_estimate (accounting_period);
create table journal_estimate (
  estimate_id bigint not null,
  journal_id bigint not null,
  constraint pk_journal_estimate primary key (estimate_id, journal_id),
  constraint fk_journal_estimate_estimate_id foreign key (estimate_id)
    references accrual_estimate (estimate_id),
  constraint fk_journal_estimate_journal_id foreign key (journal_id)
    references journal (journal_id) on delete cascade
);
create trigger append_only before update or delete on accrual_estimate
  for each statement execute function refuse_change();
create trigger never_emptied before truncate on accrual_estimate
  for each statement execute function refuse_change();
create trigger period_takes_rows after insert on accrual_estimate
  referencing new table as new_rows
  for each statement execute function check_period_takes_rows('closed');
create trigger append_only before update on journal_estimate
  for each statement execute function refuse_change();
create trigger never_emptied before truncate on journal_estimate
  for each statement execute function refuse_change();
create trigger fixed_once_exported after insert on journal_estimate
  referencing new table as changed_rows
  for each statement execute function check_journal_parts();
create trigger kept_once_exported after delete on journal_estimate
  referencing old table as changed_rows
  for each statement execute function check_journal_parts();

create or replace function check_journal_balance() returns trigger language plpgsql as $$
declare
  wrong record;
begin
  if not exists (select 1 from journal where journal_id = new.journal_id) then
    return null;
  end if;
  for wrong in
    select currency, unit, sum(debit_minor) as debits, sum(credit_minor) as credits
    from journal_line where journal_id = new.journal_id
    group by currency, unit having sum(debit_minor) <> sum(credit_minor)
    order by unit
  loop
    raise exception 'journal %: debits % and credits % (minor units of %) differ%',
                    new.external_id, wrong.debits, wrong.credits, wrong.currency,
                    case when wrong.unit = '' then '' else ' in ' || wrong.unit end
      using errcode = 'check_violation';
  end loop;
  for wrong in
    select functional_currency, unit, sum(functional_debit_minor) as debits,
      sum(functional_credit_minor) as credits
    from journal_line where journal_id = new.journal_id
    group by functional_currency, unit
    having sum(functional_debit_minor) <> sum(functional_credit_minor)
    order by unit
  loop
    raise exception 'journal %: debits % and credits % (minor units of %, functional) differ%',
                    new.external_id, wrong.debits, wrong.credits, wrong.functional_currency,
                    case when wrong.unit = '' then '' else ' in ' || wrong.unit end
      using errcode = 'check_violation',
            hint = 'the residue of conversion goes to the rounding account';
  end loop;
  if (select count(*) from journal_line where journal_id = new.journal_id) < 2 then
    raise exception 'journal %: needs at least two lines', new.external_id
      using errcode = 'check_violation';
  end if;
  return null;
end
$$;

create or replace function check_journal_change() returns trigger language plpgsql as $$
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
  -- what the ERP refused is not in its books: it may be built again
  if new.state <> old.state and not (old.state, new.state) in (
       ('built', 'exported'), ('exported', 'acknowledged'), ('exported', 'rejected'),
       ('rejected', 'built')) then
    raise exception 'journal % cannot go from % to %', old.external_id, old.state, new.state
      using errcode = 'check_violation';
  end if;
  return new;
end
$$;
