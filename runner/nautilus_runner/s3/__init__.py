"""An S3 endpoint: requests signed by ourselves over the runner's own transport (an SDK would cost 10 to 80 MiB)."""
