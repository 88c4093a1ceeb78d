"""The status page: its facts as one immutable value, and as HTML.

Knows what is published; must not know HTTP.
"""
