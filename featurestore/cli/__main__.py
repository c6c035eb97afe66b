"""`python -m featurestore.cli` is the command `featurestore`."""

from featurestore.cli import main

main()
