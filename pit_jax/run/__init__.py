"""One run: its configuration, workdir, data, pretrained models and devices, and what is refused."""
