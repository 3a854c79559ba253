"""Posting: from desired charges to booked differences, invoices' journals and ERP rows.

``booking`` is set-wise SQL over relations; journals are built from sums, in plain Python, since a
month has few of them. RULEBOOK §§9, 11, 14.
"""
