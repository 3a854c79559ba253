-- Sources of files, the profile of feed-days, and alerts.

CREATE TABLE remote_source (
  source_id TEXT NOT NULL,
  polled_at TIMESTAMP WITH TIME ZONE NOT NULL,
  succeeded_at TIMESTAMP WITH TIME ZONE,
  listed BIGINT DEFAULT '0' NOT NULL,
  error TEXT,
  refused TEXT[] DEFAULT '{}'::text[] NOT NULL,
  CONSTRAINT pk_remote_source PRIMARY KEY (source_id)
);

CREATE TABLE remote_file (
  source_id TEXT NOT NULL,
  path TEXT NOT NULL,
  version TEXT NOT NULL,
  size_bytes BIGINT NOT NULL,
  state TEXT DEFAULT 'seen' NOT NULL,
  first_seen_at TIMESTAMP WITH TIME ZONE NOT NULL,
  file_key BIGINT,
  landed_at TIMESTAMP WITH TIME ZONE,
  cleared_at TIMESTAMP WITH TIME ZONE,
  attempts INTEGER DEFAULT '0' NOT NULL,
  retry_at TIMESTAMP WITH TIME ZONE,
  problem TEXT,
  CONSTRAINT pk_remote_file PRIMARY KEY (source_id, path, version),
  CONSTRAINT ck_remote_file_state_is_known CHECK (state in ('seen', 'failed', 'landed')),
  CONSTRAINT ck_remote_file_size_is_not_negative CHECK (size_bytes >= 0),
  CONSTRAINT ck_remote_file_landed_means_archived CHECK ((state = 'landed') = (file_key is not null and landed_at is not null)),
  CONSTRAINT fk_remote_file_file_key FOREIGN KEY(file_key) REFERENCES feed_file (file_key)
);

CREATE INDEX ix_remote_file_file_key ON remote_file (file_key);

CREATE INDEX ix_remote_file_waiting ON remote_file (source_id) WHERE state <> 'landed';

CREATE TABLE feed_day_profile (
  feed_id TEXT NOT NULL,
  day DATE NOT NULL,
  files BIGINT NOT NULL,
  records BIGINT NOT NULL,
  rejected BIGINT NOT NULL,
  ignored BIGINT NOT NULL,
  identifiers BIGINT NOT NULL,
  nulls JSONB NOT NULL,
  quantities JSONB NOT NULL,
  profiled_at TIMESTAMP WITH TIME ZONE NOT NULL,
  run_id TEXT NOT NULL,
  CONSTRAINT pk_feed_day_profile PRIMARY KEY (feed_id, day),
  CONSTRAINT ck_feed_day_profile_records_are_not_negative CHECK (records >= 0),
  CONSTRAINT fk_feed_day_profile_run_id FOREIGN KEY(run_id) REFERENCES run (run_id)
);

CREATE INDEX ix_feed_day_profile_day ON feed_day_profile (day);

CREATE TABLE feed_day_failure (
  feed_id TEXT NOT NULL,
  day DATE NOT NULL,
  expectation TEXT NOT NULL,
  severity TEXT NOT NULL,
  figure TEXT NOT NULL,
  message TEXT NOT NULL,
  what_to_do TEXT NOT NULL,
  checked_at TIMESTAMP WITH TIME ZONE NOT NULL,
  CONSTRAINT pk_feed_day_failure PRIMARY KEY (feed_id, day, expectation),
  CONSTRAINT fk_feed_day_failure_feed_id_day FOREIGN KEY(feed_id, day) REFERENCES feed_day_profile (feed_id, day) ON DELETE CASCADE,
  CONSTRAINT ck_feed_day_failure_severity_is_known CHECK (severity in ('block', 'warn', 'info'))
);

CREATE TABLE alert_incident (
  incident_id BIGINT GENERATED ALWAYS AS IDENTITY,
  fingerprint VARCHAR(64) NOT NULL,
  code TEXT NOT NULL,
  severity TEXT NOT NULL,
  subject TEXT NOT NULL,
  feed_id TEXT,
  owner TEXT,
  message TEXT NOT NULL,
  figure TEXT NOT NULL,
  what_to_do TEXT NOT NULL,
  evidence TEXT NOT NULL,
  opened_at TIMESTAMP WITH TIME ZONE NOT NULL,
  cleared_at TIMESTAMP WITH TIME ZONE,
  CONSTRAINT pk_alert_incident PRIMARY KEY (incident_id),
  CONSTRAINT ck_alert_incident_severity_is_known CHECK (severity in ('block', 'warn')),
  CONSTRAINT ck_alert_incident_clears_after_it_opens CHECK (cleared_at >= opened_at)
);

CREATE INDEX ix_alert_incident_cleared_at ON alert_incident (cleared_at);

CREATE UNIQUE INDEX uq_alert_incident_open ON alert_incident (fingerprint) WHERE cleared_at is null;

CREATE TABLE alert_delivery (
  incident_id BIGINT NOT NULL,
  channel TEXT NOT NULL,
  event TEXT NOT NULL,
  severity TEXT NOT NULL,
  times INTEGER NOT NULL,
  sent_at TIMESTAMP WITH TIME ZONE NOT NULL,
  CONSTRAINT pk_alert_delivery PRIMARY KEY (incident_id, channel, event),
  CONSTRAINT ck_alert_delivery_event_is_known CHECK (event in ('opened', 'cleared')),
  CONSTRAINT ck_alert_delivery_severity_is_known CHECK (severity in ('block', 'warn')),
  CONSTRAINT ck_alert_delivery_was_sent CHECK (times > 0),
  CONSTRAINT fk_alert_delivery_incident_id FOREIGN KEY(incident_id) REFERENCES alert_incident (incident_id) ON DELETE CASCADE
);

CREATE TABLE alert_channel (
  channel TEXT NOT NULL,
  tried_at TIMESTAMP WITH TIME ZONE NOT NULL,
  failures INTEGER NOT NULL,
  error TEXT,
  CONSTRAINT pk_alert_channel PRIMARY KEY (channel)
);
