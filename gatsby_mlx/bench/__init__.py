"""Speed, side by side: the same work in MLX and in PyTorch, in turn, in one run.

    document = suites.train(TrainWork(), Settings())      a dictionary that JSON holds; see `document`
    document.table([document])                            what `gatsby bench show` prints

Each half runs in a process of its own (`side`): the BLAS that serves MLX on Linux must not serve PyTorch, and the peak
memory of one is not the other's. This process holds neither; it hands both the same weights and batches, and the turns.
"""
