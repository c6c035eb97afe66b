"""Messages generated from `protos/`; never edited, imports nothing of the store.

Its law: `protos/generate.py --check` finds nothing to change.
"""
