"""What tests and benchmarks share: processes and ports, certificates, one target on a simulated world.

Benchmarks import from here and never from the tests.
"""
