"""Benchmarks: the same work in MLX and in PyTorch, in alternating rounds of one run.

    with suites.open_bench(Settings(), config, say) as bench:     starts both peers
        results = suites.train(bench, [TrainWork()])
    content = document.build(results, ...)                        a dictionary for JSON; see `document`
    document.table_rows(content)                                  what `gatsby bench show` prints

Each framework runs in a peer process (`peer`): the BLAS that serves MLX on Linux must not serve PyTorch, and the peak
memory of one must not count for the other. The parent process loads neither. It gives both peers the same weights and
batches, and decides whose round it is.
"""
