"""HTTP in, HTTP out: a handler names its caller, calls one service and returns."""
