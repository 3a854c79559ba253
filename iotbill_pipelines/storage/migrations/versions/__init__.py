"""Migrations in order; the statements of each are SQL files beside it."""
