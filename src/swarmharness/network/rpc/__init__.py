"""Remote calls: frames, the multiplexer, windows and deadlines. Pure; `network/io` drives it."""
