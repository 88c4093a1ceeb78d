"""Talks to the cloud: MetaStudio's job list, IAM, and the machine's metadata service.

Knows requests, credentials, rate limits and what answers look like; must not know what is counted.
"""
