"""Checks of our own on the syntax tree: habits that run, but hurt later."""

import ast
from collections.abc import Iterator
from itertools import pairwise

from .models import Finding

MAX_ARGUMENTS = 7  # beyond it callers mix them up
MAX_FUNCTION_LINES = 80  # beyond it a reader scrolls
_LEAVES = (ast.Return, ast.Raise, ast.Break, ast.Continue)
_BLOCKS = ("body", "orelse", "finalbody")


def check_tree(tree: ast.Module) -> Iterator[Finding]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from _check_function(node)
            case ast.Lambda():
                yield from _check_defaults(node.args)
            case ast.ExceptHandler():
                yield from _check_except(node)
            case ast.Call(func=ast.Name(id="eval" | "exec" as name)):
                yield _finding(node, "warning", "runs-text", f"`{name}` runs text as code")
            case ast.Call(keywords=keywords):
                yield from _check_shell(keywords)
            case ast.Compare():
                yield from _check_compare(node)
        yield from _check_unreachable(node)


def _check_function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Finding]:
    yield from _check_defaults(node.args)
    count = len(node.args.posonlyargs) + len(node.args.args)
    if count > MAX_ARGUMENTS:
        yield _finding(
            node,
            "advice",
            "many-arguments",
            f"`{node.name}` takes {count} positional arguments; name some of them keyword-only",
        )
    length = (node.end_lineno or node.lineno) - node.lineno + 1
    if length > MAX_FUNCTION_LINES:
        yield _finding(
            node, "advice", "long-function", f"`{node.name}` is {length} lines long; split it"
        )


def _check_defaults(arguments: ast.arguments) -> Iterator[Finding]:
    for default in [*arguments.defaults, *(d for d in arguments.kw_defaults if d is not None)]:
        mutable = isinstance(
            default, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp
        )
        match default:
            case ast.Call(func=ast.Name(id="list" | "dict" | "set" | "bytearray")):
                mutable = True
        if mutable:
            yield _finding(
                default,
                "warning",
                "mutable-default",
                "this default is made once and shared by all calls; use None and make it inside",
            )


def _check_except(node: ast.ExceptHandler) -> Iterator[Finding]:
    if node.type is None:
        yield _finding(
            node, "warning", "bare-except", "also catches KeyboardInterrupt; name the exception"
        )
    if all(isinstance(statement, ast.Pass) for statement in node.body):
        yield _finding(
            node, "advice", "swallowed-exception", "the error vanishes; say why that is right"
        )


def _check_shell(keywords: list[ast.keyword]) -> Iterator[Finding]:
    for keyword in keywords:
        match keyword:
            case ast.keyword(arg="shell", value=ast.Constant(value=True)):
                yield _finding(
                    keyword, "warning", "shell", "the shell reads the text; pass a list instead"
                )


def _check_compare(node: ast.Compare) -> Iterator[Finding]:
    for operator, right in zip(node.ops, node.comparators, strict=True):
        if not isinstance(operator, ast.Eq | ast.NotEq):
            continue
        match right:
            case ast.Constant(value=None):
                yield _finding(node, "advice", "compare-none", "use `is None` or `is not None`")
            case ast.Constant(value=bool() as value):
                yield _finding(
                    node, "advice", "compare-bool", f"the comparison with `{value}` can go"
                )


def _check_unreachable(node: ast.AST) -> Iterator[Finding]:
    for name in _BLOCKS:
        block = getattr(node, name, None)
        if not isinstance(block, list):  # the body of a lambda or `a if b else c`
            continue
        for statement, following in pairwise(block):
            if isinstance(statement, _LEAVES):
                yield _finding(
                    following, "warning", "unreachable", "no way leads to this statement"
                )
                break


def _finding(node: ast.AST, severity: str, rule: str, message: str) -> Finding:
    return Finding(
        line=getattr(node, "lineno", 1),
        column=getattr(node, "col_offset", 0) + 1,
        severity=severity,
        rule=rule,
        message=message,
    )
