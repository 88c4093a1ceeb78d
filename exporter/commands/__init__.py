"""One module a command of the command line; ``exporter.cli`` knows their flags.

Nothing is exported here: a command is imported when it is run, so that no other pays for it.
"""
