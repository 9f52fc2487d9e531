"""The commands, a file each: options are read before anything heavy is imported."""
