"""What jobs reach over the network: nothing, the server alone, or everything but each other."""
