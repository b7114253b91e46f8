"""Nautilus: the management service and the appliance around it."""
