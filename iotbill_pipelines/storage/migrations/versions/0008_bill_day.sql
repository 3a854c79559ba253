ALTER TABLE reference_account
  ADD COLUMN bill_day INTEGER,
  ADD CONSTRAINT ck_reference_account_bill_day_is_a_day CHECK (bill_day BETWEEN 1 AND 31);

COMMENT ON COLUMN reference_account.bill_day IS
  'day 1..31 on which its billing months begin; null = the 1st';
