"""Models from elsewhere and for elsewhere: the hub, PyTorch checkpoints without PyTorch, and other libraries' forms."""
