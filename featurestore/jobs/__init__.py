"""What the CLI and schedulers run: each job is a module of its name.

May import every room but store, cli and integrations. Its law: a job that is killed leaves the
state before it or the state after it, and running it again completes it.

============================== ==================================================================
plan, apply                    what the repo defines, against what is applied (sample, dialect,
                               commit)
materialize, backfill          tables brought up to date (due, run, compute, revise), and into
                               Redis (online)
verify                         the proof, whose laws are in `proof`
promote, collect, locks        what an alias names, and what may go (publish)
push, ingest                   rows pushed to a source, what servers were pushed, and events of
                               a stream
compact                        a table's many small files as few
rebuild                        Redis from the rest (copies)
versions                       what is said of versions: list, show, diff, lineage, log
facts, leases, tables          what is known now, whose turn it is, where training reads
workspace, config              the stores of a repo, opened
============================== ==================================================================
"""
