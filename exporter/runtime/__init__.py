"""The targets that run: started, changed by a reload, stopped; and what systemd is told.

Puts the other packages together for each target; must not know what is counted.
"""
