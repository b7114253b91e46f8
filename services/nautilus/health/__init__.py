"""How every component of the appliance is, honestly."""
