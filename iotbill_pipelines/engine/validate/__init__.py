"""Validation: range rules as SQL, pandera schemas at the edges, profiles of a feed-day."""
