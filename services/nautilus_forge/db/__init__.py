"""The forge's database: engine, unit of work, models, schema check."""
