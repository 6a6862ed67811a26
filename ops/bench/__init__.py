"""The benchmark: Synap beside other programs, on this machine, in the same run.

    python -m ops.bench [--quick]

`__main__` runs the groups of rows, each a module of its own with a function `run(settings)` that
returns a `Section`; `report` prints sections and keeps them in docs/benchmarks.md. A number stands
in a section only where every answer after it was checked.
"""
