"""What a ``fail_msg`` means: its class, its template, a rule for it.

Pure: text in, text out; must not know jobs or metrics.
"""
