"""Where data lives: sources, offline tables, the registry, Redis, and the codec of keys and rows.

It may import the model and errors. What a serving process loads of it (`keys`, `xxh64`, `rows`,
`fixed`, `variable`, `packed`, `raw`, `unique`, `connection`, `redis`) needs NumPy, Polars and the
Redis client and nothing heavier.

Its law: what is read is what was written for that key of that table of that project, or an error.
"""
