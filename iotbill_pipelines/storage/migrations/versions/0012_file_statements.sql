-- What companion files state of data files, and waivers of suspense that were taken back.

create table file_statement (
  feed_id text not null,
  companion text not null,
  data_file text not null default '',
  file_key bigint not null,
  landed_at timestamp with time zone not null,
  read_at timestamp with time zone,
  stated jsonb,
  constraint pk_file_statement primary key (feed_id, companion, data_file),
  constraint fk_file_statement_file_key foreign key (file_key) references feed_file (file_key)
);
create index ix_file_statement_file_key on file_statement (file_key);
create index ix_file_statement_feed_id_data_file on file_statement (feed_id, data_file);

create table suspense_waiver_withdrawal (
  waiver_id bigint not null,
  withdrawn_by text not null,
  withdraw_reason text not null,
  withdrawn_at timestamp with time zone not null,
  constraint pk_suspense_waiver_withdrawal primary key (waiver_id),
  constraint fk_suspense_waiver_withdrawal_waiver_id
    foreign key (waiver_id) references suspense_waiver (waiver_id),
  constraint ck_suspense_waiver_withdrawal_a_withdrawal_is_signed
    check (length(trim(withdrawn_by)) > 0 and length(trim(withdraw_reason)) > 0)
);
create trigger append_only before update or delete on suspense_waiver_withdrawal
  for each statement execute function refuse_change();
create trigger never_emptied before truncate on suspense_waiver_withdrawal
  for each statement execute function refuse_change();

-- What was waived, taken back and waived again has two waivers; one of them holds.
alter table suspense_waiver drop constraint uq_suspense_waiver_file_key_line_no_reason_code;
create index ix_suspense_waiver_file_key_line_no on suspense_waiver (file_key, line_no);
