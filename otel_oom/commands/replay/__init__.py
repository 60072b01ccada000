"""Import of old kernel logs.

``run`` connects the stages: ``log_files`` and ``rotation`` select and date the files,
``decompress`` opens them, ``prefilter`` and ``formats.journal_export`` pass on the lines near
kills, ``formats`` parses them, ``timestamps`` completes their times, ``boots`` and ``events``
extract events, ``deduplicate`` passes each on once, ``send`` or ``show`` is the end.
"""
