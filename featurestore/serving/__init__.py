"""The gRPC server and client, and how columns cross the wire.

Five rooms:

- `client`: what serving services use; `process`: a server, and what stands around its calls;
- `answer`: from the bytes of a request to those of its answer; `push`: rows pushed into views;
- `message`: what goes over the wire, and what both sides say the same of.

May import engine, storage (keys, rows, redis), model, errors, proto; grpc lives here only. Its law:
an answer is made of one release, whole, and needs Redis and nothing else.
"""
