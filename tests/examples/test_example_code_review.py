from __future__ import annotations


def found(done):
    return [(f["line"], f["column"], f["rule"]) for f in done["output"]["findings"]]


def review(run_example, data, *names):
    sources = [(data / "snippets" / name).read_text() for name in names]
    return run_example("code_review", *({"source": source} for source in sources))


def test_a_tidy_module_has_no_findings(run_example, data):
    [done] = review(run_example, data, "tidy.py")
    assert done["output"] == {"findings": [], "left_out": 0, "lines": 14, "parses": True}


def test_faults_are_found_where_they_are(run_example, data):
    careless, risky, inventory = review(
        run_example, data, "careless.py", "risky.py", "inventory.py"
    )
    assert found(careless) == [
        (1, 1, "UnusedImport"),
        (2, 1, "UnusedImport"),
        (5, 25, "mutable-default"),
        (8, 9, "unreachable"),
        (10, 12, "compare-none"),
        (16, 5, "bare-except"),
        (16, 5, "swallowed-exception"),
        (23, 19, "UndefinedName"),
        (24, 5, "UnusedVariable"),
    ]
    assert found(risky) == [
        (7, 12, "runs-text"),
        (11, 41, "shell"),
        (15, 5, "AssertTuple"),
        (19, 9, "PercentFormatPositionalCountMismatch"),
    ]
    assert found(inventory) == [
        (4, 1, "UnusedImport"),
        (15, 30, "mutable-default"),
        (27, 17, "unreachable"),
        (34, 78, "UndefinedName"),
        (36, 5, "RedefinedWhileUnused"),
        (44, 12, "compare-none"),
        (46, 11, "FStringMissingPlaceholders"),
    ]
    [undefined] = [f for f in careless["output"]["findings"] if f["rule"] == "UndefinedName"]
    assert undefined["severity"] == "error"
    assert undefined["message"] == "undefined name 'prise'"


def test_source_that_does_not_parse_is_one_finding(run_example, data):
    broken, zero, deep, deeper = (
        *review(run_example, data, "broken.py"),
        *run_example(
            "code_review",
            {"source": "a = 1\0"},
            {"source": "(" * 5_000},
            {"source": "x = " + "-" * 20_000 + "1"},
        ),
    )
    assert found(broken) == [(2, 10, "syntax")]
    for done in (broken, zero, deep):
        assert done["output"]["parses"] is False
        assert done["output"]["findings"][0]["severity"] == "error"
    assert {f["rule"] for f in deeper["output"]["findings"]} == {"too-deep"}


def test_parser_warnings_are_findings_and_the_list_is_bounded(run_example):
    escape, many = run_example(
        "code_review",
        {"source": 'pattern = "\\d"\n'},
        {"source": "import os\n" * 9, "max_findings": 4},
    )
    assert found(escape) == [(1, 1, "parser-warning")]
    assert len(many["output"]["findings"]) == 4
    assert many["output"]["left_out"] > 0


def test_the_source_is_never_run(run_example, tmp_path):
    trace = tmp_path / "trace"
    source = f"open({str(trace)!r}, 'w').write('ran')\n"
    [done] = run_example("code_review", {"source": source})
    assert done["output"]["parses"]
    assert not trace.exists()


def test_bad_input_is_refused_by_the_model(run_example):
    done = run_example(
        "code_review",
        {},
        {"source": "x" * 200_001},
        {"source": "", "filename": ""},
        {"source": "", "max_findings": 0},
    )
    assert [one.get("refused") for one in done] == [
        ["source"],
        ["source"],
        ["filename"],
        ["max_findings"],
    ]
