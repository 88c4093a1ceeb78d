"""Counts every job exactly once: what is open, what was counted, what may still come (docs/counting.md).

Pure: no I/O, no clock, no asyncio, no logging. Times are arguments, in milliseconds on the API's clock.
"""
