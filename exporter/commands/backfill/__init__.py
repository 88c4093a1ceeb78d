"""``backfill``: past jobs as samples with timestamps, such that live counting goes on from there.

``increments`` says what a job adds to which series, ``spool`` keeps that on disk until all is read,
``output`` writes it for Prometheus or VictoriaMetrics, ``left_out`` finds the jobs that live counting
has, and ``command`` puts them together. Must not change the store, nor count what live counting will count.
"""
