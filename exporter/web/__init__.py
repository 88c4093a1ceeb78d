"""Serves metrics, the status page and health over HTTP, and bounds what a client may cost.

Knows sockets, TLS and paths; must not know the cloud, the store or the ledger.
"""
