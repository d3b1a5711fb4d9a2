async def handle(input):
    return None
