"""The gRPC server and client, and how columns cross the wire.

May import engine, storage (keys, rows, redis), model, errors, proto; grpc lives here only. Its law:
an answer is made of one release, whole, and needs Redis and nothing else.
"""
