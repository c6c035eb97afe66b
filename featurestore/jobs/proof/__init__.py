"""How two states of the same features are compared: the laws that `verify` asks, bit by bit.

May import what jobs may, and of jobs what reads tables. Its law: what differs is told with entity,
feature and both values, and only what every state allows is passed over.
"""
