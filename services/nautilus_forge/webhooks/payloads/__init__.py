"""What is sent to webhooks: one module for each kind of event, as GitLab's `Gitlab::DataBuilder` has them."""
