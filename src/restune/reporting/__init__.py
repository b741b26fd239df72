"""Results as people read them: tables, and later reports."""
