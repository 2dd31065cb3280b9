"""Python runs this at its start where tests/mac is on PYTHONPATH: the children of `pytest --as-mac`."""

import simulated_mac

simulated_mac.begin()
