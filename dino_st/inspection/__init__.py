"""What people look at: the report, and the audit of sampled pairs."""
