"""A feature store: each feature is written once, as a Polars expression in a Feast definition."""
