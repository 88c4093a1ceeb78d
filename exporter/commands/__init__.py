"""One module or package for each command, and what several of them share: flags (``arguments``), tables and
progress (``console``), past jobs (``past``), what would keep a start from working (``preflight``), the number
of series (``series``).

Knows everything below; must not know a running exporter: each command reads the store and asks the API
itself. Nothing is exported here: a command is imported when it is run, so that no other pays for it.
"""
