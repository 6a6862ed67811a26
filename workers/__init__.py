"""The processes of a node: arguments, signals, exit codes. The engines live in `synap/`."""
