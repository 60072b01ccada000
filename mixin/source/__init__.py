"""Sources of the dashboards and rules: ``python -m mixin.source`` writes them."""
