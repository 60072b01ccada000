"""`make bench-fleet`: the traffic of many hosts through two gateways, by simulation."""
