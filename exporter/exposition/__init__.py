"""Published values as the bytes of one scrape.

Knows every metric, the two text formats and compression; must not know where the numbers come from.
"""
