"""``verify``: lists a past stretch again and compares it with what the store says was counted.

``compare`` is pure and finds differences and their causes minute by minute, in the ``cells`` by which the
store counts; ``command`` reads and prints. Must not change the store, nor disturb an exporter that uses it.
"""
