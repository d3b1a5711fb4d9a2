async def run(input):
    return None
