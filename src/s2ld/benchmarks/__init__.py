"""Everything that measures speed and memory; no test asserts what it finds.

`sections/` are the parts of the speed benchmark, `outcome` is a number beside its target. Start with
`sections/pair.py`.
"""
