"""Who gets an answer: TLS, client certificates, passwords, rate limits (``--web.config.file``).

Knows exporter-toolkit's file format; must not know what is served.
"""
