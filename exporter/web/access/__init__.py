"""Who gets an answer: TLS, client certificates, passwords, rate limits (``--web.config.file``).

Knows the file format of Prometheus' exporter-toolkit; must not know what is served.
"""
