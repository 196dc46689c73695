"""From the results of a run to tables, plots and targets."""
