"""How fast this machine generates and trains, beside a peer and beside what the device could do."""
