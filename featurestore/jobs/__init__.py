"""What the CLI and schedulers run: plan, apply, materialize, promote.

May import every room but store, cli and integrations. Its law: a job that is killed leaves the
state before it or the state after it, and running it again completes it.
"""
