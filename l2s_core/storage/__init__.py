"""Files that a run leaves: written atomically, checked when read, found by their address."""
