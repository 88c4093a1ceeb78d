"""How a request proves who sends it, and where the credentials for that come from.

Knows signatures, tokens, IAM and the usual places of keys; must not know jobs.
"""
