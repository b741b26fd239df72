"""Results for people to read: tables and report.html."""
