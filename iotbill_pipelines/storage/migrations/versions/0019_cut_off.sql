-- Accruals of billing months that go on beyond a period.

alter table derived_entry drop constraint ck_derived_entry_purpose_is_known;
alter table derived_entry add constraint ck_derived_entry_purpose_is_known
  check (purpose in ('deferral', 'release', 'allocation', 'commission', 'true_up', 'cut_off'));
