"""Tools for people who write feeds: check, try out, scaffold and document a feed's YAML.

None of them needs a workspace, a database or Dagster, and none stores a record.
"""
