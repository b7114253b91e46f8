"""The tables, one module per noun. Importing a module registers its tables with `Base.metadata`."""
