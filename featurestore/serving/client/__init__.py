"""How services and notebooks ask servers: channels, retries, answers as NumPy and Polars.

Its law: whoever carries the bytes, what is asked and how it is read is one code.
"""
