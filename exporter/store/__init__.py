"""Keeps what was counted: one transaction a commit, and a ledger that equals it.

Knows SQL and files; must not know what the numbers mean.
"""
