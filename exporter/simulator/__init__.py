"""A stand-in for MetaStudio: speaks the documented API over HTTP and knows the truth about every job.

Tests compare the exporter's counts with that truth, so it shares no code and no constants with the exporter.
Start reading at ``simulation.py``. It listens on loopback only.
"""
