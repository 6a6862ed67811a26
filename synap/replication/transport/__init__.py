"""ZeroMQ on an asyncio loop: the only package that knows it.

sockets      PUB, SUB, ROUTER, DEALER: bytes in, bytes out
curve        keys of CurveZMQ
handshakes   who is let in, and what fails
doorkeeper   bounds what peers make a listening node hold
reach        whether an address can be reached, and why not
tcp_facts    what the kernel tells of a connection
"""
