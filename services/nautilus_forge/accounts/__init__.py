"""What is done for accounts and memberships beside the requests."""
