"""Groups and subgroups: where teams keep their projects, and who may do what there."""
