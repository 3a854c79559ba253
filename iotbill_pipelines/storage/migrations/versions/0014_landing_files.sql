-- Files of the landing folder whose content is in the archive: while the stamp stays, nobody reads
-- them again, however often the process that looks is restarted.
create table landing_file (
  path text not null,
  size_bytes bigint not null,
  modified_ns bigint not null,
  changed_ns bigint not null,
  inode bigint not null,
  file_key bigint not null,
  constraint pk_landing_file primary key (path),
  constraint fk_landing_file_file_key foreign key (file_key) references feed_file (file_key)
);
create index ix_landing_file_file_key on landing_file (file_key);
