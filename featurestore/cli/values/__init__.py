"""What each command answers a program: plain values for JSON."""
