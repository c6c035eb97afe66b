"""Bridges to other tools, one file each, each behind its own optional extra.

May import every room below the command line. Its law: nothing else in the package imports a bridge.
"""
