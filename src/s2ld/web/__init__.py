"""`s2ld web`: a page to match photographs in the browser, and the same by HTTP for programs.

Start with `app.py`, which tells what is at which address. `line.py` lets one request after the other be worked on,
`service.py` is that work, `uploads.py` and `fields.py` check what comes in, `answers.py` is what goes out; `page` holds
the files that the browser loads, plain HTML, CSS and JavaScript.
"""
