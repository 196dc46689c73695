"""One measurement: load, CPU time, limits of the machine, systems measured in turn."""
