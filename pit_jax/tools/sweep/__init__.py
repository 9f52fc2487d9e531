"""Many runs of one configuration with other values, and which of them were best."""
