"""Measuring Sluice: against its limits, against the classic design and against other servers. Not shipped."""
