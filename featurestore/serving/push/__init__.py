"""Pushed rows, from the frame they come in to Redis, and the window states they go into.

Its law: judged row by row; what is taken is kept offline first, and shown online never twice.
"""
