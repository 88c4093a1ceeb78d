"""``verify``: lists a past stretch again and compares it with what the store says was counted.

``compare`` is pure and finds differences and their causes minute by minute; ``command`` reads and prints.
"""
