"""The journal's migrations, one file each in `versions/`. activities/adapters/sql_schema.py runs them; docs/adr/0018.

A new one: change sql_tables.py, run tests/adapters/test_journal_schema.py (it prints the code that is missing), write that
into `versions/`, and name it as HEAD in sql_tables.py.
"""
