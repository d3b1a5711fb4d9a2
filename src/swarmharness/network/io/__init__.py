"""Asyncio drivers of the network's cores."""
