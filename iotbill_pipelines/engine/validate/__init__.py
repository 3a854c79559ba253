"""Validation: range rules as SQL, and the profile of a feed-day."""
