"""Pages for a browser: one file each, without scripts, and without anything from elsewhere.

``markup`` builds HTML, in which every plain text is escaped. ``elements`` renders those of a page,
``document`` the whole of it, with ``style.css`` inside.
"""
