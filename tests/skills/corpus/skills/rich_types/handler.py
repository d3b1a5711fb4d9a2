from .models import Input, Node, Output


async def handle(input: Input) -> Output:
    tree = Node(value=1, children=[Node(value=2)])
    return Output(when=input.when, key=input.key, raw=b"raw", tree=tree)
