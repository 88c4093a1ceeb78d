"""The status page: its facts as one immutable value, and as HTML.

Knows what is published; must not know HTTP.

``StatusPage`` is no part of the front: ``web`` imports it from ``status.page`` with the first request for the
page, as Jinja2 takes a tenth of the start.
"""

from exporter.status.model import Reload, Status, build_status

__all__ = ["Reload", "Status", "build_status"]
