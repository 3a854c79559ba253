"""Validation: the profile of a feed-day."""
