"""A serving process: the gRPC server, its workers, and what stands around every call.

Its law: a call costs itself only; whatever it asks for or dies of, the others go on.
"""
