import os

KEY = os.environ["A_VARIABLE_THAT_NOBODY_SETS"]


async def handle(input):
    return None
