"""``exporter.yaml`` as frozen values, and every way in which it can be wrong.

Knows keys, defaults and what contradicts what; must not know what the values are used for.
"""
