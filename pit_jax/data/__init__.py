"""From a source of preferences to padded batches of token ids."""
