"""The pure core: documents, dtypes, expressions, identity, time rules, queries and plans.

May import errors, polars and cattrs. Its law: no I/O, no clock, no randomness; equal arguments
give equal answers in every process.
"""
