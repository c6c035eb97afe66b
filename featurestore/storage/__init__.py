"""Where data lives: sources, offline tables, the registry, Redis, and the codec of keys and rows.

It may import the model and errors. What a serving process loads of it (`keys`, `xxh64`, `rows`,
`decoded`, `fixed`, `variable`, `packed`, `raw`, `unique`, `redis` and what it is made of, down to
`connection`) needs NumPy, Polars, hiredis and xxhash and nothing heavier.

Its law: what is read is what was written for that key of that table of that project, or an error.
"""
