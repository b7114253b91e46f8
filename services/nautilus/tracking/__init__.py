"""MLflow-compatible tracking: MLflow's experiment is a project here, MLflow's run is a Nautilus experiment."""
