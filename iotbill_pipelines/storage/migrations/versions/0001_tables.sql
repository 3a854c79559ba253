-- Every table, in order of reference.

CREATE TABLE audit_log (
  seq BIGINT DEFAULT 0 NOT NULL,
  at TIMESTAMP WITH TIME ZONE NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail JSONB DEFAULT '{}'::jsonb NOT NULL,
  input_hashes JSONB DEFAULT '{}'::jsonb NOT NULL,
  previous_hash VARCHAR(64) DEFAULT '' NOT NULL,
  hash VARCHAR(64) DEFAULT '' NOT NULL,
  CONSTRAINT pk_audit_log PRIMARY KEY (seq)
);

CREATE TABLE catalog_version (
  version_no BIGINT GENERATED ALWAYS AS IDENTITY,
  digest VARCHAR(64) NOT NULL,
  known_from TIMESTAMP WITH TIME ZONE NOT NULL,
  content TEXT NOT NULL,
  CONSTRAINT pk_catalog_version PRIMARY KEY (version_no)
);

CREATE INDEX ix_catalog_version_digest ON catalog_version (digest);

CREATE TABLE feed_file (
  file_key BIGINT NOT NULL,
  sha256 VARCHAR(64) NOT NULL,
  feed_id TEXT,
  original_name TEXT NOT NULL,
  size_bytes BIGINT NOT NULL,
  landed_at TIMESTAMP WITH TIME ZONE NOT NULL,
  received_day DATE NOT NULL,
  state TEXT NOT NULL,
  error TEXT,
  records_in BIGINT,
  kept BIGINT,
  ignored BIGINT,
  rejected BIGINT,
  quantity_in NUMERIC(38, 0),
  quantity_kept NUMERIC(38, 0),
  quantity_ignored NUMERIC(38, 0),
  quantity_rejected NUMERIC(38, 0),
  usage_months TEXT[],
  archive_path TEXT NOT NULL,
  attempts INTEGER DEFAULT '0' NOT NULL,
  ingested_at TIMESTAMP WITH TIME ZONE,
  CONSTRAINT pk_feed_file PRIMARY KEY (file_key),
  CONSTRAINT ck_feed_file_state_is_known CHECK (state in ('landed', 'ingested', 'quarantined', 'unrecognised')),
  CONSTRAINT ck_feed_file_size_is_not_negative CHECK (size_bytes >= 0),
  CONSTRAINT ck_feed_file_records_are_conserved CHECK (state <> 'ingested' or records_in = kept + ignored + rejected),
  CONSTRAINT uq_feed_file_sha256 UNIQUE (sha256)
);

CREATE INDEX ix_feed_file_feed_id ON feed_file (feed_id);

CREATE INDEX ix_feed_file_received_day ON feed_file (received_day);

CREATE TABLE legal_entity (
  entity_id TEXT NOT NULL,
  name TEXT NOT NULL,
  currency VARCHAR(3) NOT NULL,
  CONSTRAINT pk_legal_entity PRIMARY KEY (entity_id)
);

CREATE TABLE reference_account (
  row_id BIGINT GENERATED ALWAYS AS IDENTITY,
  account_id TEXT NOT NULL,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  parent_account_id TEXT,
  entity_id TEXT NOT NULL,
  billing_zone TEXT NOT NULL,
  currency TEXT NOT NULL,
  customer_group TEXT,
  source TEXT NOT NULL,
  file_key BIGINT,
  known_from TIMESTAMP WITH TIME ZONE NOT NULL,
  known_to TIMESTAMP WITH TIME ZONE,
  CONSTRAINT pk_reference_account PRIMARY KEY (row_id),
  CONSTRAINT ck_reference_account_knowledge_ends_after_it_starts CHECK (known_to >= known_from)
);

CREATE INDEX ix_reference_account_known ON reference_account (known_from, known_to);

CREATE UNIQUE INDEX uq_reference_account_current ON reference_account (account_id) WHERE known_to is null;

COMMENT ON TABLE reference_account IS 'A party: customer, reseller or vendor.';

COMMENT ON COLUMN reference_account.account_id IS 'id';

COMMENT ON COLUMN reference_account.name IS 'name on documents';

COMMENT ON COLUMN reference_account.kind IS 'customer, reseller or vendor';

COMMENT ON COLUMN reference_account.parent_account_id IS 'account it reports to';

COMMENT ON COLUMN reference_account.entity_id IS 'our legal entity that deals with it';

COMMENT ON COLUMN reference_account.billing_zone IS 'IANA zone whose dates count (RULEBOOK §0.3)';

COMMENT ON COLUMN reference_account.currency IS 'ISO 4217';

COMMENT ON COLUMN reference_account.customer_group IS 'for reports';

COMMENT ON COLUMN reference_account.source IS 'feed that said so';

COMMENT ON COLUMN reference_account.file_key IS 'file that said so';

CREATE TABLE reference_service (
  row_id BIGINT GENERATED ALWAYS AS IDENTITY,
  service_id TEXT NOT NULL,
  account_id TEXT NOT NULL,
  label TEXT,
  source TEXT NOT NULL,
  file_key BIGINT,
  known_from TIMESTAMP WITH TIME ZONE NOT NULL,
  known_to TIMESTAMP WITH TIME ZONE,
  CONSTRAINT pk_reference_service PRIMARY KEY (row_id),
  CONSTRAINT ck_reference_service_knowledge_ends_after_it_starts CHECK (known_to >= known_from)
);

CREATE INDEX ix_reference_service_known ON reference_service (known_from, known_to);

CREATE UNIQUE INDEX uq_reference_service_current ON reference_service (service_id) WHERE known_to is null;

COMMENT ON TABLE reference_service IS 'A SIM or device subscribed by an account.';

COMMENT ON COLUMN reference_service.service_id IS 'id';

COMMENT ON COLUMN reference_service.account_id IS 'owner; another owner is another service';

COMMENT ON COLUMN reference_service.label IS 'for people';

COMMENT ON COLUMN reference_service.source IS 'feed that said so';

COMMENT ON COLUMN reference_service.file_key IS 'file that said so';

CREATE TABLE reference_service_identifier (
  row_id BIGINT GENERATED ALWAYS AS IDENTITY,
  uid_type TEXT NOT NULL,
  uid_value TEXT NOT NULL,
  service_id TEXT NOT NULL,
  valid_from TIMESTAMP WITHOUT TIME ZONE NOT NULL,
  valid_to TIMESTAMP WITHOUT TIME ZONE,
  source TEXT NOT NULL,
  file_key BIGINT,
  known_from TIMESTAMP WITH TIME ZONE NOT NULL,
  known_to TIMESTAMP WITH TIME ZONE,
  CONSTRAINT pk_reference_service_identifier PRIMARY KEY (row_id),
  CONSTRAINT ck_reference_service_identifier_knowledge_ends_after_it_starts CHECK (known_to >= known_from)
);

CREATE INDEX ix_reference_service_identifier_known ON reference_service_identifier (known_from, known_to);

CREATE UNIQUE INDEX uq_reference_service_identifier_current ON reference_service_identifier (uid_type, uid_value, valid_from) WHERE known_to is null;

COMMENT ON TABLE reference_service_identifier IS 'Which service an identifier meant, and when (UTC, half-open).';

COMMENT ON COLUMN reference_service_identifier.uid_type IS 'iccid, imsi, ...';

COMMENT ON COLUMN reference_service_identifier.uid_value IS 'canonical';

COMMENT ON COLUMN reference_service_identifier.service_id IS 'service';

COMMENT ON COLUMN reference_service_identifier.valid_from IS 'UTC, inclusive';

COMMENT ON COLUMN reference_service_identifier.valid_to IS 'UTC, exclusive; null = open';

COMMENT ON COLUMN reference_service_identifier.source IS 'feed that said so';

COMMENT ON COLUMN reference_service_identifier.file_key IS 'file that said so';

CREATE TABLE reference_service_offer (
  row_id BIGINT GENERATED ALWAYS AS IDENTITY,
  service_id TEXT NOT NULL,
  level TEXT NOT NULL,
  payer_account_id TEXT NOT NULL,
  offer_id TEXT NOT NULL,
  valid_from DATE NOT NULL,
  valid_to DATE,
  source TEXT NOT NULL,
  file_key BIGINT,
  known_from TIMESTAMP WITH TIME ZONE NOT NULL,
  known_to TIMESTAMP WITH TIME ZONE,
  CONSTRAINT pk_reference_service_offer PRIMARY KEY (row_id),
  CONSTRAINT ck_reference_service_offer_knowledge_ends_after_it_starts CHECK (known_to >= known_from)
);

CREATE INDEX ix_reference_service_offer_known ON reference_service_offer (known_from, known_to);

CREATE UNIQUE INDEX uq_reference_service_offer_current ON reference_service_offer (service_id, level, valid_from) WHERE known_to is null;

COMMENT ON TABLE reference_service_offer IS 'Which offer prices a service at each level of the seller chain.';

COMMENT ON COLUMN reference_service_offer.service_id IS 'service';

COMMENT ON COLUMN reference_service_offer.level IS 'retail, wholesale or vendor (RULEBOOK §7)';

COMMENT ON COLUMN reference_service_offer.payer_account_id IS 'account that pays (retail) or that we pay (vendor)';

COMMENT ON COLUMN reference_service_offer.offer_id IS 'offer';

COMMENT ON COLUMN reference_service_offer.valid_from IS 'local date, inclusive';

COMMENT ON COLUMN reference_service_offer.valid_to IS 'exclusive; null = open';

COMMENT ON COLUMN reference_service_offer.source IS 'feed that said so';

COMMENT ON COLUMN reference_service_offer.file_key IS 'file that said so';

CREATE TABLE reference_service_state (
  row_id BIGINT GENERATED ALWAYS AS IDENTITY,
  service_id TEXT NOT NULL,
  changed_at TIMESTAMP WITHOUT TIME ZONE NOT NULL,
  state TEXT NOT NULL,
  source TEXT NOT NULL,
  file_key BIGINT,
  known_from TIMESTAMP WITH TIME ZONE NOT NULL,
  known_to TIMESTAMP WITH TIME ZONE,
  CONSTRAINT pk_reference_service_state PRIMARY KEY (row_id),
  CONSTRAINT ck_reference_service_state_knowledge_ends_after_it_starts CHECK (known_to >= known_from)
);

CREATE INDEX ix_reference_service_state_known ON reference_service_state (known_from, known_to);

CREATE UNIQUE INDEX uq_reference_service_state_current ON reference_service_state (service_id, changed_at) WHERE known_to is null;

COMMENT ON TABLE reference_service_state IS 'State history of a service; the last change of a day owns it (ST-04).';

COMMENT ON COLUMN reference_service_state.service_id IS 'service';

COMMENT ON COLUMN reference_service_state.changed_at IS 'local time of the change in the account''s billing zone';

COMMENT ON COLUMN reference_service_state.state IS 'user-defined state';

COMMENT ON COLUMN reference_service_state.source IS 'feed that said so';

COMMENT ON COLUMN reference_service_state.file_key IS 'file that said so';

CREATE TABLE run (
  run_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  period VARCHAR(7),
  started_at TIMESTAMP WITH TIME ZONE NOT NULL,
  finished_at TIMESTAMP WITH TIME ZONE,
  status TEXT DEFAULT 'started' NOT NULL,
  actor TEXT NOT NULL,
  code_version TEXT NOT NULL,
  detail JSONB,
  CONSTRAINT pk_run PRIMARY KEY (run_id),
  CONSTRAINT ck_run_status_is_known CHECK (status in ('started', 'succeeded', 'failed'))
);

CREATE INDEX ix_run_period ON run (period);

CREATE TABLE snapshot (
  snapshot_id TEXT NOT NULL,
  known_at TIMESTAMP WITH TIME ZONE NOT NULL,
  catalog_digest VARCHAR(64),
  rows JSONB NOT NULL,
  CONSTRAINT pk_snapshot PRIMARY KEY (snapshot_id)
);

CREATE TABLE dispute (
  dispute_id TEXT NOT NULL,
  entity_id TEXT NOT NULL,
  accounting_period VARCHAR(7) NOT NULL,
  usage_period VARCHAR(7) NOT NULL,
  vendor_id TEXT NOT NULL,
  invoice_no TEXT,
  invoice_line_no BIGINT,
  uid_value TEXT,
  charge_code TEXT NOT NULL,
  cause TEXT NOT NULL,
  currency VARCHAR(3) NOT NULL,
  billed_minor BIGINT NOT NULL,
  expected_minor BIGINT NOT NULL,
  difference_minor BIGINT NOT NULL,
  difference NUMERIC(20, 4) GENERATED ALWAYS AS (minor_to_amount(difference_minor, currency)) STORED NOT NULL,
  evidence TEXT NOT NULL,
  deadline DATE,
  status TEXT DEFAULT 'open' NOT NULL,
  credit_reference TEXT,
  opened_at TIMESTAMP WITH TIME ZONE NOT NULL,
  updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
  CONSTRAINT pk_dispute PRIMARY KEY (dispute_id),
  CONSTRAINT ck_dispute_accounting_period_is_a_month CHECK (accounting_period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
  CONSTRAINT ck_dispute_usage_period_is_a_month CHECK (usage_period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
  CONSTRAINT ck_dispute_status_is_known CHECK (status in ('open', 'sent', 'accepted', 'rejected', 'credited', 'withdrawn')),
  CONSTRAINT uq_dispute_key UNIQUE NULLS NOT DISTINCT (vendor_id, accounting_period, usage_period, invoice_no, uid_value, charge_code, cause, currency),
  CONSTRAINT fk_dispute_entity_id FOREIGN KEY(entity_id) REFERENCES legal_entity (entity_id)
);

CREATE TABLE feed_file_outcome (
  file_key BIGINT NOT NULL,
  usage_month VARCHAR(7) NOT NULL,
  outcome TEXT NOT NULL,
  reason_code TEXT DEFAULT '' NOT NULL,
  records BIGINT NOT NULL,
  quantity NUMERIC(38, 0) NOT NULL,
  CONSTRAINT pk_feed_file_outcome PRIMARY KEY (file_key, usage_month, outcome, reason_code),
  CONSTRAINT ck_feed_file_outcome_usage_month_is_a_month CHECK (usage_month ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
  CONSTRAINT ck_feed_file_outcome_outcome_is_known CHECK (outcome in ('kept', 'duplicate', 'suspended')),
  CONSTRAINT ck_feed_file_outcome_records_are_not_negative CHECK (records >= 0),
  CONSTRAINT fk_feed_file_outcome_file_key FOREIGN KEY(file_key) REFERENCES feed_file (file_key)
);

CREATE INDEX ix_feed_file_outcome_usage_month ON feed_file_outcome (usage_month);

CREATE TABLE gate_result (
  gate_result_id BIGINT GENERATED ALWAYS AS IDENTITY,
  entity_id TEXT,
  period VARCHAR(7) NOT NULL,
  gate TEXT NOT NULL,
  outcome TEXT NOT NULL,
  severity TEXT NOT NULL,
  figure TEXT,
  message TEXT NOT NULL,
  what_to_do TEXT,
  evidence JSONB,
  run_id TEXT,
  recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
  waived_by TEXT,
  waive_reason TEXT,
  CONSTRAINT pk_gate_result PRIMARY KEY (gate_result_id),
  CONSTRAINT ck_gate_result_period_is_a_month CHECK (period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
  CONSTRAINT ck_gate_result_outcome_is_known CHECK (outcome in ('passed', 'failed', 'waived')),
  CONSTRAINT ck_gate_result_severity_is_known CHECK (severity in ('block', 'warn', 'info')),
  CONSTRAINT ck_gate_result_a_waiver_is_signed CHECK (outcome <> 'waived' or (waived_by is not null and waive_reason is not null)),
  CONSTRAINT fk_gate_result_entity_id FOREIGN KEY(entity_id) REFERENCES legal_entity (entity_id),
  CONSTRAINT fk_gate_result_run_id FOREIGN KEY(run_id) REFERENCES run (run_id)
);

CREATE INDEX ix_gate_result_period_gate ON gate_result (period, gate);

CREATE TABLE period (
  entity_id TEXT NOT NULL,
  period VARCHAR(7) NOT NULL,
  state TEXT DEFAULT 'open' NOT NULL,
  changed_at TIMESTAMP WITH TIME ZONE NOT NULL,
  CONSTRAINT pk_period PRIMARY KEY (entity_id, period),
  CONSTRAINT ck_period_period_is_a_month CHECK (period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
  CONSTRAINT ck_period_state_is_known CHECK (state in ('open', 'soft_closed', 'in_review', 'closed', 'reopened')),
  CONSTRAINT fk_period_entity_id FOREIGN KEY(entity_id) REFERENCES legal_entity (entity_id)
);

CREATE TABLE stage_input (
  stage TEXT NOT NULL,
  month VARCHAR(7) NOT NULL,
  fingerprint VARCHAR(64) NOT NULL,
  detail JSONB NOT NULL,
  run_id TEXT NOT NULL,
  recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
  CONSTRAINT pk_stage_input PRIMARY KEY (stage, month),
  CONSTRAINT ck_stage_input_month_is_a_month CHECK (month ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
  CONSTRAINT fk_stage_input_run_id FOREIGN KEY(run_id) REFERENCES run (run_id)
);

CREATE TABLE vendor_reconciliation (
  reconciliation_id BIGINT GENERATED ALWAYS AS IDENTITY,
  entity_id TEXT NOT NULL,
  accounting_period VARCHAR(7) NOT NULL,
  vendor_id TEXT NOT NULL,
  currency VARCHAR(3) NOT NULL,
  expected_minor BIGINT NOT NULL,
  invoiced_minor BIGINT NOT NULL,
  variance_minor BIGINT NOT NULL,
  tolerated_minor BIGINT NOT NULL,
  disputed_minor BIGINT NOT NULL,
  unexplained_minor BIGINT NOT NULL,
  lines BIGINT NOT NULL,
  matched_lines BIGINT NOT NULL,
  expected NUMERIC(20, 4) GENERATED ALWAYS AS (minor_to_amount(expected_minor, currency)) STORED NOT NULL,
  invoiced NUMERIC(20, 4) GENERATED ALWAYS AS (minor_to_amount(invoiced_minor, currency)) STORED NOT NULL,
  variance NUMERIC(20, 4) GENERATED ALWAYS AS (minor_to_amount(variance_minor, currency)) STORED NOT NULL,
  status TEXT NOT NULL,
  snapshot_id TEXT,
  run_id TEXT NOT NULL,
  reconciled_at TIMESTAMP WITH TIME ZONE NOT NULL,
  CONSTRAINT pk_vendor_reconciliation PRIMARY KEY (reconciliation_id),
  CONSTRAINT uq_vendor_reconciliation_entity_id_accounting_period_ve_95a2 UNIQUE (entity_id, accounting_period, vendor_id, currency),
  CONSTRAINT ck_vendor_reconciliation_accounting_period_is_a_month CHECK (accounting_period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
  CONSTRAINT ck_vendor_reconciliation_status_is_known CHECK (status in ('matched', 'tolerated', 'disputed', 'underbilled', 'accrued')),
  CONSTRAINT ck_vendor_reconciliation_variance_adds CHECK (variance_minor = invoiced_minor - expected_minor),
  CONSTRAINT fk_vendor_reconciliation_entity_id FOREIGN KEY(entity_id) REFERENCES legal_entity (entity_id),
  CONSTRAINT fk_vendor_reconciliation_snapshot_id FOREIGN KEY(snapshot_id) REFERENCES snapshot (snapshot_id),
  CONSTRAINT fk_vendor_reconciliation_run_id FOREIGN KEY(run_id) REFERENCES run (run_id)
);

CREATE TABLE booked_charge (
  id BIGINT NOT NULL,
  entry_no INTEGER NOT NULL,
  run_id TEXT NOT NULL,
  level TEXT NOT NULL,
  entity_id TEXT NOT NULL,
  account_id TEXT NOT NULL,
  service_id TEXT NOT NULL,
  charge_id TEXT NOT NULL,
  product_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  gl_class TEXT NOT NULL,
  tax_code TEXT NOT NULL,
  usage_period VARCHAR(7) NOT NULL,
  billing_period VARCHAR(7) NOT NULL,
  accounting_period VARCHAR(7) NOT NULL,
  records BIGINT NOT NULL,
  quantity BIGINT NOT NULL,
  currency VARCHAR(3) NOT NULL,
  amount_minor BIGINT NOT NULL,
  amount NUMERIC(20, 4) GENERATED ALWAYS AS (minor_to_amount(amount_minor, currency)) STORED NOT NULL,
  reason TEXT NOT NULL,
  cause TEXT NOT NULL,
  snapshot_id TEXT,
  price_ids TEXT NOT NULL,
  booked_at TIMESTAMP WITH TIME ZONE NOT NULL,
  CONSTRAINT pk_booked_charge PRIMARY KEY (id),
  CONSTRAINT fk_booked_charge_entity_id_accounting_period FOREIGN KEY(entity_id, accounting_period) REFERENCES period (entity_id, period),
  CONSTRAINT ck_booked_charge_usage_period_is_a_month CHECK (usage_period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
  CONSTRAINT ck_booked_charge_billing_period_is_a_month CHECK (billing_period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
  CONSTRAINT ck_booked_charge_accounting_period_is_a_month CHECK (accounting_period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
  CONSTRAINT ck_booked_charge_level_is_known CHECK (level in ('retail', 'wholesale', 'vendor')),
  CONSTRAINT ck_booked_charge_reason_is_known CHECK (reason in ('initial', 'adjustment', 'reversal', 'rebill')),
  CONSTRAINT uq_booked_charge_entry UNIQUE (usage_period, level, account_id, service_id, charge_id, entity_id, product_id, kind, gl_class, tax_code, currency, entry_no),
  CONSTRAINT ck_booked_charge_entry_no_starts_at_one CHECK (entry_no > 0),
  CONSTRAINT fk_booked_charge_run_id FOREIGN KEY(run_id) REFERENCES run (run_id),
  CONSTRAINT fk_booked_charge_snapshot_id FOREIGN KEY(snapshot_id) REFERENCES snapshot (snapshot_id)
);

CREATE INDEX ix_booked_charge_accounting_period_entity_id_level ON booked_charge (accounting_period, entity_id, level);

CREATE TABLE invoice (
  invoice_id BIGINT NOT NULL,
  invoice_no TEXT NOT NULL,
  run_id TEXT NOT NULL,
  entity_id TEXT NOT NULL,
  account_id TEXT NOT NULL,
  account_name TEXT NOT NULL,
  billing_period VARCHAR(7) NOT NULL,
  accounting_period VARCHAR(7) NOT NULL,
  sequence INTEGER NOT NULL,
  issue_date DATE NOT NULL,
  currency VARCHAR(3) NOT NULL,
  lines BIGINT NOT NULL,
  total_minor BIGINT NOT NULL,
  total NUMERIC(20, 4) GENERATED ALWAYS AS (minor_to_amount(total_minor, currency)) STORED NOT NULL,
  issued_at TIMESTAMP WITH TIME ZONE NOT NULL,
  CONSTRAINT pk_invoice PRIMARY KEY (invoice_id),
  CONSTRAINT fk_invoice_entity_id_accounting_period FOREIGN KEY(entity_id, accounting_period) REFERENCES period (entity_id, period),
  CONSTRAINT uq_invoice_entity_id_account_id_billing_period_currency_074f UNIQUE (entity_id, account_id, billing_period, currency, sequence),
  CONSTRAINT ck_invoice_billing_period_is_a_month CHECK (billing_period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
  CONSTRAINT ck_invoice_accounting_period_is_a_month CHECK (accounting_period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
  CONSTRAINT ck_invoice_has_lines CHECK (lines > 0),
  CONSTRAINT ck_invoice_sequence_starts_at_one CHECK (sequence > 0),
  CONSTRAINT uq_invoice_invoice_no UNIQUE (invoice_no),
  CONSTRAINT fk_invoice_run_id FOREIGN KEY(run_id) REFERENCES run (run_id)
);

CREATE INDEX ix_invoice_accounting_period_entity_id ON invoice (accounting_period, entity_id);

CREATE TABLE journal (
  journal_id BIGINT NOT NULL,
  external_id TEXT NOT NULL,
  run_id TEXT NOT NULL,
  entity_id TEXT NOT NULL,
  accounting_period VARCHAR(7) NOT NULL,
  journal_type TEXT NOT NULL,
  revision INTEGER NOT NULL,
  currency VARCHAR(3) NOT NULL,
  journal_date DATE NOT NULL,
  memo TEXT NOT NULL,
  content_hash VARCHAR(64) NOT NULL,
  state TEXT DEFAULT 'built' NOT NULL,
  built_at TIMESTAMP WITH TIME ZONE NOT NULL,
  exported_at TIMESTAMP WITH TIME ZONE,
  answered_at TIMESTAMP WITH TIME ZONE,
  answer TEXT,
  CONSTRAINT pk_journal PRIMARY KEY (journal_id),
  CONSTRAINT fk_journal_entity_id_accounting_period FOREIGN KEY(entity_id, accounting_period) REFERENCES period (entity_id, period),
  CONSTRAINT uq_journal_entity_id_accounting_period_journal_type_revision UNIQUE (entity_id, accounting_period, journal_type, revision),
  CONSTRAINT uq_journal_journal_id_currency UNIQUE (journal_id, currency),
  CONSTRAINT ck_journal_state_is_known CHECK (state in ('built', 'exported', 'acknowledged', 'rejected')),
  CONSTRAINT ck_journal_export_is_dated CHECK (state = 'built' or exported_at is not null),
  CONSTRAINT uq_journal_external_id UNIQUE (external_id),
  CONSTRAINT fk_journal_run_id FOREIGN KEY(run_id) REFERENCES run (run_id)
);

CREATE TABLE period_event (
  event_id BIGINT GENERATED ALWAYS AS IDENTITY,
  entity_id TEXT NOT NULL,
  period VARCHAR(7) NOT NULL,
  from_state TEXT NOT NULL,
  to_state TEXT NOT NULL,
  at TIMESTAMP WITH TIME ZONE NOT NULL,
  actor TEXT NOT NULL,
  role TEXT,
  reason TEXT,
  CONSTRAINT pk_period_event PRIMARY KEY (event_id),
  CONSTRAINT fk_period_event_entity_id_period FOREIGN KEY(entity_id, period) REFERENCES period (entity_id, period)
);

CREATE TABLE vendor_reconciliation_line (
  reconciliation_id BIGINT NOT NULL,
  line_no BIGINT NOT NULL,
  line_key TEXT NOT NULL,
  usage_period VARCHAR(7) NOT NULL,
  invoice_no TEXT,
  uid_value TEXT,
  service_id TEXT,
  charge_code TEXT NOT NULL,
  currency VARCHAR(3) NOT NULL,
  expected_quantity BIGINT,
  invoiced_quantity BIGINT,
  expected_minor BIGINT NOT NULL,
  invoiced_minor BIGINT NOT NULL,
  variance_minor BIGINT NOT NULL,
  variance NUMERIC(20, 4) GENERATED ALWAYS AS (minor_to_amount(variance_minor, currency)) STORED NOT NULL,
  status TEXT NOT NULL,
  CONSTRAINT pk_vendor_reconciliation_line PRIMARY KEY (reconciliation_id, line_no),
  CONSTRAINT ck_vendor_reconciliation_line_status_is_known CHECK (status in ('matched', 'tolerated', 'disputed', 'underbilled')),
  CONSTRAINT ck_vendor_reconciliation_line_variance_adds CHECK (variance_minor = invoiced_minor - expected_minor),
  CONSTRAINT fk_vendor_reconciliation_line_reconciliation_id FOREIGN KEY(reconciliation_id) REFERENCES vendor_reconciliation (reconciliation_id) ON DELETE CASCADE
);

CREATE TABLE invoice_line (
  invoice_id BIGINT NOT NULL,
  line_no BIGINT NOT NULL,
  booked_charge_id BIGINT NOT NULL,
  currency VARCHAR(3) NOT NULL,
  amount_minor BIGINT NOT NULL,
  amount NUMERIC(20, 4) GENERATED ALWAYS AS (minor_to_amount(amount_minor, currency)) STORED NOT NULL,
  CONSTRAINT pk_invoice_line PRIMARY KEY (invoice_id, line_no),
  CONSTRAINT fk_invoice_line_invoice_id FOREIGN KEY(invoice_id) REFERENCES invoice (invoice_id),
  CONSTRAINT uq_invoice_line_booked_charge_id UNIQUE (booked_charge_id),
  CONSTRAINT fk_invoice_line_booked_charge_id FOREIGN KEY(booked_charge_id) REFERENCES booked_charge (id)
);

CREATE TABLE journal_export (
  journal_id BIGINT NOT NULL,
  target TEXT NOT NULL,
  file_name TEXT NOT NULL,
  sha256 VARCHAR(64) NOT NULL,
  exported_at TIMESTAMP WITH TIME ZONE NOT NULL,
  CONSTRAINT pk_journal_export PRIMARY KEY (journal_id, target),
  CONSTRAINT fk_journal_export_journal_id FOREIGN KEY(journal_id) REFERENCES journal (journal_id)
);

CREATE TABLE journal_line (
  journal_id BIGINT NOT NULL,
  line_no BIGINT NOT NULL,
  role TEXT NOT NULL,
  is_suspense BOOLEAN NOT NULL,
  account TEXT NOT NULL,
  account_name TEXT NOT NULL,
  currency VARCHAR(3) NOT NULL,
  debit_minor BIGINT DEFAULT '0' NOT NULL,
  credit_minor BIGINT DEFAULT '0' NOT NULL,
  debit NUMERIC(20, 4) GENERATED ALWAYS AS (minor_to_amount(debit_minor, currency)) STORED NOT NULL,
  credit NUMERIC(20, 4) GENERATED ALWAYS AS (minor_to_amount(credit_minor, currency)) STORED NOT NULL,
  memo TEXT NOT NULL,
  name TEXT,
  department TEXT,
  class_name TEXT,
  location TEXT,
  CONSTRAINT pk_journal_line PRIMARY KEY (journal_id, line_no),
  CONSTRAINT fk_journal_line_journal_id_currency FOREIGN KEY(journal_id, currency) REFERENCES journal (journal_id, currency) ON DELETE CASCADE,
  CONSTRAINT ck_journal_line_no_negative_side CHECK (debit_minor >= 0 and credit_minor >= 0),
  CONSTRAINT ck_journal_line_one_side_only CHECK ((debit_minor > 0) <> (credit_minor > 0))
);

CREATE TABLE vendor_reconciliation_cause (
  reconciliation_id BIGINT NOT NULL,
  line_no BIGINT NOT NULL,
  cause TEXT NOT NULL,
  currency VARCHAR(3) NOT NULL,
  amount_minor BIGINT NOT NULL,
  amount NUMERIC(20, 4) GENERATED ALWAYS AS (minor_to_amount(amount_minor, currency)) STORED NOT NULL,
  evidence TEXT NOT NULL,
  CONSTRAINT pk_vendor_reconciliation_cause PRIMARY KEY (reconciliation_id, line_no, cause),
  CONSTRAINT fk_vendor_reconciliation_cause_reconciliation_id_line_no FOREIGN KEY(reconciliation_id, line_no) REFERENCES vendor_reconciliation_line (reconciliation_id, line_no) ON DELETE CASCADE
);

CREATE TABLE journal_charge (
  booked_charge_id BIGINT NOT NULL,
  journal_type TEXT NOT NULL,
  journal_id BIGINT NOT NULL,
  debit_line_no BIGINT,
  credit_line_no BIGINT,
  CONSTRAINT pk_journal_charge PRIMARY KEY (booked_charge_id, journal_type),
  CONSTRAINT fk_journal_charge_journal_id_debit_line_no FOREIGN KEY(journal_id, debit_line_no) REFERENCES journal_line (journal_id, line_no) ON DELETE CASCADE,
  CONSTRAINT fk_journal_charge_journal_id_credit_line_no FOREIGN KEY(journal_id, credit_line_no) REFERENCES journal_line (journal_id, line_no) ON DELETE CASCADE,
  CONSTRAINT fk_journal_charge_booked_charge_id FOREIGN KEY(booked_charge_id) REFERENCES booked_charge (id),
  CONSTRAINT fk_journal_charge_journal_id FOREIGN KEY(journal_id) REFERENCES journal (journal_id) ON DELETE CASCADE
);

CREATE INDEX ix_journal_charge_journal_id_credit_line_no ON journal_charge (journal_id, credit_line_no);

CREATE INDEX ix_journal_charge_journal_id_debit_line_no ON journal_charge (journal_id, debit_line_no);
