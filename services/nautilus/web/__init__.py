"""The pages: Jinja2, htmx and uPlot on top of the features' services. Nothing here reads the database."""
