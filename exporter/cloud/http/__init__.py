"""One request, one bounded answer: connections, proxies, certificates, limits, and what an error means.

Knows httpx; must not know credentials' origin or jobs.
"""
