-- Suspended records that a named person has decided not to wait for. Append-only, like every
-- signature.

create table suspense_waiver (
  waiver_id bigint generated always as identity,
  file_key bigint not null,
  line_no bigint not null,
  usage_month varchar(7) not null,
  feed_id text not null,
  reason_code text not null,
  quantity bigint not null,
  waived_by text not null,
  waive_reason text not null,
  waived_at timestamp with time zone not null,
  constraint pk_suspense_waiver primary key (waiver_id),
  constraint fk_suspense_waiver_file_key foreign key (file_key) references feed_file (file_key),
  constraint uq_suspense_waiver_file_key_line_no_reason_code
    unique (file_key, line_no, reason_code),
  constraint ck_suspense_waiver_usage_month_is_a_month
    check (usage_month ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
  constraint ck_suspense_waiver_a_waiver_is_signed
    check (length(trim(waived_by)) > 0 and length(trim(waive_reason)) > 0)
);
create index ix_suspense_waiver_usage_month on suspense_waiver (usage_month);

create trigger append_only before update or delete on suspense_waiver
  for each statement execute function refuse_change();
create trigger never_emptied before truncate on suspense_waiver
  for each statement execute function refuse_change();
