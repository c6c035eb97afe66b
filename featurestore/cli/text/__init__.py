"""What each command answers a person: text that fits the terminal."""
