"""The commands of `nautilus-runner`: a module for each noun, whose `add(app)` puts its commands on the command line."""
