"""An evaluation as files, tables and pictures (`files.py`), and reading them back (`dump.py`)."""
