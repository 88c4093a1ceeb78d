"""A MetaStudio stand-in: speaks the documented API over HTTP and knows the truth about every job.

An independent witness: it shares no code and no constants with the rest of the exporter. Start reading
at ``simulation.py``. Loopback only.
"""
