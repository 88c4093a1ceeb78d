"""``doctor``: what the API of a target is like where the documentation leaves that open, and what to do.

    answers    one answer as it came, with what it lacks
    asking     one request after the other, by the exporter's own client; what went wrong with it
    questions  what they all need; ``depth``: those about what lies behind the first page
    interview  which questions are asked, in which order, and what is learned from each: ``facts``
    examine    pure: facts -> ``findings``, each with its verdict and the lines that answer it, by what they
               are about: ``about_access``, ``about_list``, ``about_records``
    watch      the same of a list that is asked for minutes
    report     findings as a table or as JSON
    answer_file  what came, without ids and secrets, for ``--save``
    command    the targets, the exit code

Must not know how jobs are counted: it changes nothing, and reads no store.
"""
