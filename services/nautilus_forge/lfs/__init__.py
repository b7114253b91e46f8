"""Git LFS: objects that lie beside the repositories, the batch and locks APIs, and what a push is held to."""
