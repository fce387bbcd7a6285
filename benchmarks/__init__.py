"""How fast the service is, beside a bare handler that does the same reads and writes by hand."""
