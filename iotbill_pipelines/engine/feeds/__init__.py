"""Feeds as configuration: typed terms, named functions, and their compilation to SQL."""
