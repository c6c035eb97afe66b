"""From the bytes of a request to the bytes of its answer, without a socket or a clock.

Its law: the reader of Redis and the moment are parameters; one release, every key read once.
"""
