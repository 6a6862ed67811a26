"""The figures of docs/scaling.md.

fanout     what a subscriber costs a master, as a table and a picture
balance    how keys and slots spread over clusters
"""
