"""What goes over the wire, and what clients and servers say the same of: columns, locks, errors.

Its law: what is written and read again has the same bits.
"""
