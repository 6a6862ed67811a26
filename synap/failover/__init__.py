"""Who is the next master, and when: the rules of a fail-over, by hand or by itself.

rules     how many seals a promotion needs, and who is ahead of a candidate; pure
"""
