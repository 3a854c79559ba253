"""The pure part: tables and terms in, tables and findings out.

Nothing below this package knows Dagster, a database, a clock, a random source or an
environment variable. Its SQL runs on whatever implements :class:`engine.compute.Compute`.
"""
