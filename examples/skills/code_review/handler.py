"""Review Python source: pyflakes and a few checks of habit, without running a line of it."""

import ast
import warnings
from collections.abc import Iterator

from pyflakes import checker
from pyflakes import messages as flaws

from .checks import check_tree
from .models import Finding, Input, Output

# Of what pyflakes reports, these fail when the line runs; the others are untidy.
_ERRORS = (
    flaws.UndefinedName,
    flaws.UndefinedLocal,
    flaws.DuplicateArgument,
    flaws.ReturnOutsideFunction,
    flaws.YieldOutsideFunction,
    flaws.ContinueOutsideLoop,
    flaws.BreakOutsideLoop,
    flaws.PercentFormatPositionalCountMismatch,
    flaws.StringDotFormatMissingArgument,
)


async def handle(request: Input) -> Output:
    findings, parses = _review(request.source, request.filename)
    findings.sort(key=lambda f: (f.line, f.column, f.rule))
    return Output(
        findings=findings[: request.max_findings],
        left_out=max(0, len(findings) - request.max_findings),
        lines=len(request.source.splitlines()),
        parses=parses,
    )


def _review(source: str, filename: str) -> tuple[list[Finding], bool]:
    with warnings.catch_warnings(record=True) as noticed:
        warnings.simplefilter("always")
        try:
            tree = ast.parse(source, filename)
        except (SyntaxError, ValueError) as error:  # ValueError: a zero byte in the source
            return [_syntax_finding(error)], False
        except (RecursionError, MemoryError):  # how the parser says "nested too deeply"
            return [_too_deep()], False
    findings = [_warning_finding(warning) for warning in noticed]
    try:
        findings.extend(check_tree(tree))
        findings.extend(_pyflakes(tree, filename))
    except RecursionError:
        findings.append(_too_deep())
    return findings, True


def _pyflakes(tree: ast.Module, filename: str) -> Iterator[Finding]:
    for message in checker.Checker(tree, filename=filename).messages:
        yield Finding(
            line=message.lineno,
            column=message.col + 1,
            severity="error" if isinstance(message, _ERRORS) else "warning",
            rule=type(message).__name__,
            message=message.message % message.message_args,
        )


def _syntax_finding(error: SyntaxError | ValueError) -> Finding:
    return Finding(
        line=max(1, getattr(error, "lineno", None) or 1),
        column=max(1, getattr(error, "offset", None) or 1),
        severity="error",
        rule="syntax",
        message=getattr(error, "msg", None) or str(error),
    )


def _warning_finding(warning: warnings.WarningMessage) -> Finding:
    return Finding(
        line=max(1, warning.lineno),
        column=1,
        severity="warning",
        rule="parser-warning",
        message=str(warning.message),
    )


def _too_deep() -> Finding:
    return Finding(
        line=1,
        column=1,
        severity="error",
        rule="too-deep",
        message="the source is nested too deeply to be reviewed",
    )
