"""What one poll of a target asks for, and what the answers prove (docs/counting.md).

Knows windows, pages and request budgets; must not know HTTP or SQL.
"""
