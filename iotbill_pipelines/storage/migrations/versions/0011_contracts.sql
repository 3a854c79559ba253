-- Signed contracts as they are known, bitemporal like the other reference data.

CREATE TABLE reference_contract (
  row_id BIGINT GENERATED ALWAYS AS IDENTITY,
  contract_id TEXT NOT NULL,
  account_id TEXT NOT NULL,
  service_id TEXT,
  template_id TEXT,
  account_contract_id TEXT,
  start_date DATE NOT NULL,
  end_date DATE,
  terminated_on DATE,
  termination_status TEXT,
  own_terms TEXT,
  source TEXT NOT NULL,
  file_key BIGINT,
  known_from TIMESTAMP WITH TIME ZONE NOT NULL,
  known_to TIMESTAMP WITH TIME ZONE,
  CONSTRAINT pk_reference_contract PRIMARY KEY (row_id),
  CONSTRAINT ck_reference_contract_knowledge_ends_after_it_starts CHECK (known_to >= known_from)
);

CREATE INDEX ix_reference_contract_known ON reference_contract (known_from, known_to);

CREATE UNIQUE INDEX uq_reference_contract_current ON reference_contract (contract_id) WHERE known_to is null;

COMMENT ON TABLE reference_contract IS 'A signed contract of an account, or of one service of it (RULEBOOK §4).';

COMMENT ON COLUMN reference_contract.contract_id IS 'id';

COMMENT ON COLUMN reference_contract.account_id IS 'account that signed';

COMMENT ON COLUMN reference_contract.service_id IS 'service it is for; null = the whole account';

COMMENT ON COLUMN reference_contract.template_id IS 'template whose terms were copied at signing';

COMMENT ON COLUMN reference_contract.account_contract_id IS 'account contract that it ends with (co-termination)';

COMMENT ON COLUMN reference_contract.start_date IS 'first day of the first term';

COMMENT ON COLUMN reference_contract.end_date IS 'first day after the first term; null = by its terms';

COMMENT ON COLUMN reference_contract.terminated_on IS 'first day without contract, where it was ended early';

COMMENT ON COLUMN reference_contract.termination_status IS 'why it was ended: a status of its terms';

COMMENT ON COLUMN reference_contract.own_terms IS 'customer terms, JSON: keys that replace the template''s';

COMMENT ON COLUMN reference_contract.source IS 'feed that said so';

COMMENT ON COLUMN reference_contract.file_key IS 'file that said so';

create trigger keeps_history before update or delete on reference_contract
  for each row execute function check_reference_change();

create trigger never_emptied before truncate on reference_contract
  for each statement execute function refuse_change();

CREATE TABLE reference_contract_terms (
  row_id BIGINT GENERATED ALWAYS AS IDENTITY,
  contract_id TEXT NOT NULL,
  template_id TEXT NOT NULL,
  terms TEXT NOT NULL,
  source TEXT NOT NULL,
  file_key BIGINT,
  known_from TIMESTAMP WITH TIME ZONE NOT NULL,
  known_to TIMESTAMP WITH TIME ZONE,
  CONSTRAINT pk_reference_contract_terms PRIMARY KEY (row_id),
  CONSTRAINT ck_reference_contract_terms_knowledge_ends_after_it_starts CHECK (known_to >= known_from)
);

CREATE INDEX ix_reference_contract_terms_known ON reference_contract_terms (known_from, known_to);

CREATE UNIQUE INDEX uq_reference_contract_terms_current ON reference_contract_terms (contract_id) WHERE known_to is null;

COMMENT ON TABLE reference_contract_terms IS 'The template''s terms as they were when the contract was signed.';

COMMENT ON COLUMN reference_contract_terms.contract_id IS 'contract';

COMMENT ON COLUMN reference_contract_terms.template_id IS 'template they were copied from';

COMMENT ON COLUMN reference_contract_terms.terms IS 'the copy, JSON';

COMMENT ON COLUMN reference_contract_terms.source IS 'feed that said so';

COMMENT ON COLUMN reference_contract_terms.file_key IS 'file that said so';

create trigger keeps_history before update or delete on reference_contract_terms
  for each row execute function check_reference_change();

create trigger never_emptied before truncate on reference_contract_terms
  for each statement execute function refuse_change();

CREATE TABLE reference_contract_suspension (
  row_id BIGINT GENERATED ALWAYS AS IDENTITY,
  contract_id TEXT NOT NULL,
  start_date DATE NOT NULL,
  end_date DATE NOT NULL,
  source TEXT NOT NULL,
  file_key BIGINT,
  known_from TIMESTAMP WITH TIME ZONE NOT NULL,
  known_to TIMESTAMP WITH TIME ZONE,
  CONSTRAINT pk_reference_contract_suspension PRIMARY KEY (row_id),
  CONSTRAINT ck_reference_contract_suspension_knowledge_ends_after_it_starts CHECK (known_to >= known_from)
);

CREATE INDEX ix_reference_contract_suspension_known ON reference_contract_suspension (known_from, known_to);

CREATE UNIQUE INDEX uq_reference_contract_suspension_current ON reference_contract_suspension (contract_id, start_date) WHERE known_to is null;

COMMENT ON TABLE reference_contract_suspension IS 'Days on which a contract stood still (ST-23).';

COMMENT ON COLUMN reference_contract_suspension.contract_id IS 'contract';

COMMENT ON COLUMN reference_contract_suspension.start_date IS 'first day';

COMMENT ON COLUMN reference_contract_suspension.end_date IS 'first day after';

COMMENT ON COLUMN reference_contract_suspension.source IS 'feed that said so';

COMMENT ON COLUMN reference_contract_suspension.file_key IS 'file that said so';

create trigger keeps_history before update or delete on reference_contract_suspension
  for each row execute function check_reference_change();

create trigger never_emptied before truncate on reference_contract_suspension
  for each statement execute function refuse_change();

CREATE TABLE commitment_status (
  usage_period TEXT NOT NULL,
  contract_id TEXT NOT NULL,
  commitment_id TEXT NOT NULL,
  window_start DATE NOT NULL,
  charge_id TEXT NOT NULL,
  level TEXT NOT NULL,
  account_id TEXT NOT NULL,
  service_id TEXT NOT NULL,
  product_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  unit TEXT NOT NULL,
  currency TEXT NOT NULL,
  window_end DATE NOT NULL,
  closes BOOLEAN NOT NULL,
  committed NUMERIC(30, 12) NOT NULL,
  measured NUMERIC(30, 12) NOT NULL,
  missing NUMERIC(30, 12) NOT NULL,
  penalty_minor BIGINT NOT NULL,
  projected NUMERIC(30, 12) NOT NULL,
  projected_missing NUMERIC(30, 12) NOT NULL,
  projected_minor BIGINT NOT NULL,
  step_value NUMERIC(30, 12) NOT NULL,
  next_step_on DATE,
  next_step_value NUMERIC(30, 12),
  excluded_lines BIGINT NOT NULL,
  excluded_amount NUMERIC(30, 12) NOT NULL,
  detail TEXT NOT NULL,
  CONSTRAINT pk_commitment_status PRIMARY KEY (usage_period, contract_id, commitment_id, window_start)
);

COMMENT ON TABLE commitment_status IS 'Where commitments stand at the end of a usage period; a copy of the lake''s table.';

COMMENT ON COLUMN commitment_status.usage_period IS 'usage period';

COMMENT ON COLUMN commitment_status.contract_id IS 'contract';

COMMENT ON COLUMN commitment_status.commitment_id IS 'commitment of its terms';

COMMENT ON COLUMN commitment_status.window_start IS 'first day of the window under contract';

COMMENT ON COLUMN commitment_status.charge_id IS 'charge that a shortfall is booked as';

COMMENT ON COLUMN commitment_status.level IS 'retail, wholesale or vendor';

COMMENT ON COLUMN commitment_status.account_id IS 'account';

COMMENT ON COLUMN commitment_status.service_id IS 'service of a line-item contract, else ''''';

COMMENT ON COLUMN commitment_status.product_id IS 'product of the penalty';

COMMENT ON COLUMN commitment_status.kind IS 'kind of commitment';

COMMENT ON COLUMN commitment_status.unit IS 'currency, or the unit that is counted';

COMMENT ON COLUMN commitment_status.currency IS 'currency of the penalty';

COMMENT ON COLUMN commitment_status.window_end IS 'first day after the window''s last day under contract';

COMMENT ON COLUMN commitment_status.closes IS 'the window ends in the period';

COMMENT ON COLUMN commitment_status.committed IS 'what the window commits to';

COMMENT ON COLUMN commitment_status.measured IS 'what counted so far';

COMMENT ON COLUMN commitment_status.missing IS 'max(0, committed - measured)';

COMMENT ON COLUMN commitment_status.penalty_minor IS 'what is charged for the shortfall; 0 while the window is open';

COMMENT ON COLUMN commitment_status.projected IS 'measured at the window''s end, if it goes on as so far';

COMMENT ON COLUMN commitment_status.projected_missing IS 'what will be missing then';

COMMENT ON COLUMN commitment_status.projected_minor IS 'what will be charged for it';

COMMENT ON COLUMN commitment_status.step_value IS 'ramp step in force, per commitment period';

COMMENT ON COLUMN commitment_status.next_step_on IS 'day on which the ramp''s next step begins';

COMMENT ON COLUMN commitment_status.next_step_value IS 'its value';

COMMENT ON COLUMN commitment_status.excluded_lines IS 'charges that did not count';

COMMENT ON COLUMN commitment_status.excluded_amount IS 'their sum';

COMMENT ON COLUMN commitment_status.detail IS 'arithmetic in words and numbers';

CREATE TABLE pool_headroom (
  usage_period VARCHAR(7) NOT NULL,
  window_start DATE NOT NULL,
  level TEXT NOT NULL,
  pool_id TEXT NOT NULL,
  charge_id TEXT NOT NULL,
  account_id TEXT NOT NULL,
  services BIGINT NOT NULL,
  available BIGINT NOT NULL,
  used BIGINT NOT NULL,
  CONSTRAINT pk_pool_headroom PRIMARY KEY (usage_period, window_start, level, pool_id, charge_id)
);
