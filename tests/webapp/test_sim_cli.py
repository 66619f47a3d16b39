"""`stripemeter sim` on real files: what agrees, what differs, and what is wrong with a file."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from webapp.cli import stripemeter

GOOD = {
    "input": {
        "usageItems": [
            {
                "metric": "m",
                "quantity": 25000,
                "priceConfig": {"model": "per_unit", "currency": "usd", "unitPrice": "0.01"},
            }
        ]
    },
    "expected": {"total": "250.00"},
}


def sim(*arguments: object) -> Result:
    return CliRunner().invoke(stripemeter, ["sim", *map(str, arguments)])


def write(folder: Path, content: object, name: str = "a.sim.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_examples_agree(repository: Path) -> None:
    examples = repository / "examples" / "simulations"
    assert sim("validate", examples).output == "7 scenarios, all good.\n"
    ran = sim("run", examples, "--fail-on-diff")
    assert ran.exit_code == 0
    assert "7 scenarios: 7 agree." in ran.output
    totals = json.loads(sim("run", examples, "--format", "json").output)
    assert [each["result"]["total"] for each in totals] == [
        "220.00", "30.00", "28.00", "15.00", "185", "10.12", "47.60",
    ]  # fmt: skip


def test_a_difference_is_named_and_fails_only_where_asked(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD | {"expected": {"total": "249.99"}})
    ran = sim("run", path)
    assert ran.exit_code == 0
    assert "total is 250.00 USD, expected 249.99 USD (+0.01 USD)" in ran.output
    assert "1 scenario: 1 differs." in ran.output
    assert sim("run", path, "--fail-on-diff").exit_code == 1
    assert sim("report", path, "--fail-on-diff").exit_code == 1


@pytest.mark.parametrize(
    ("tolerances", "state"),
    [
        ({"absolute": "0.01"}, "agrees"),
        ({"absolute": "0.009"}, "differs"),
        ({"percent": "0.01"}, "agrees"),
        ({"percent": "0.001"}, "differs"),
        ({"percent": "0.001", "absolute": "5"}, "agrees"),
    ],
)
def test_tolerances(tmp_path: Path, tolerances: dict[str, str], state: str) -> None:
    path = write(tmp_path, GOOD | {"expected": {"total": "250.01"}, "tolerances": tolerances})
    assert json.loads(sim("run", path, "--format", "json").output)[0]["state"] == state


def test_line_items_are_compared_by_position_and_name(tmp_path: Path) -> None:
    def state(line: dict[str, str]) -> str:
        path = write(tmp_path, GOOD | {"expected": {"lineItems": [line]}})
        return str(json.loads(sim("run", path, "--format", "json").output)[0]["state"])

    assert state({"metric": "m", "total": "250"}) == "agrees"
    assert state({"metric": "m", "total": "251"}) == "differs"
    assert state({"metric": "n", "total": "250"}) == "error"


def test_a_number_keeps_its_digits(tmp_path: Path) -> None:
    config = '{"model": "per_unit", "currency": "usd", "unitPrice": 0.000000000001}'
    text = (
        '{"input": {"usageItems": [{"metric": "m", "quantity": 12345678901234567890,'
        f' "priceConfig": {config}}}]}}}}'
    )
    path = write(tmp_path, text)
    (ran,) = json.loads(sim("run", path, "--format", "json").output)
    assert ran["result"]["lineItems"][0]["exact"] == "12345678.90123456789"
    yaml = (
        "input: {usageItems: [{metric: m, quantity: 12345678901234567890, priceConfig:"
        " {model: per_unit, currency: usd, unitPrice: 0.000000000001}}]}"
    )
    (ran,) = json.loads(sim("run", write(tmp_path, yaml, "b.sim.yaml"), "--format", "json").output)
    assert ran["result"]["lineItems"][0]["exact"] == "12345678.90123456789"


def item(**changes: object) -> dict[str, object]:
    return {"input": {"usageItems": [GOOD["input"]["usageItems"][0] | changes]}}  # type: ignore[index]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (item(quantity=-1), "/input/usageItems/0/quantity must not be negative"),
        (item(quantity=True), "/input/usageItems/0/quantity must be a number"),
        (item(metric=None), "/input/usageItems/0/metric is required"),
        (
            item(priceConfig={"model": "x", "currency": "usd"}),
            "/input/usageItems/0/priceConfig/model is not a pricing model: 'x'",
        ),
        (
            item(quantity=-1, priceConfig=None),
            "/input/usageItems/0/quantity must not be negative",
        ),
    ],
)
def test_validate_says_where(tmp_path: Path, content: object, said: str) -> None:
    path = write(tmp_path, content)
    ran = sim("validate", path)
    assert ran.exit_code == 1
    assert said in ran.output
    assert str(path) in ran.output


def test_validate_finds_every_mistake(tmp_path: Path) -> None:
    items = [item(quantity=-1), item(), item(metric=None)]
    given = {"usageItems": [each["input"]["usageItems"][0] for each in items], "taxRate": "x"}  # type: ignore[index]
    ran = sim("validate", write(tmp_path, {"input": given}))
    assert ran.exit_code == 1
    assert "/input/usageItems/0/quantity must not be negative" in ran.output
    assert "/input/usageItems/2/metric is required" in ran.output
    assert "/input/taxRate is not a plain decimal number" in ran.output
    assert len(ran.output.splitlines()) == 3


def test_what_has_no_price_is_never_a_success(tmp_path: Path) -> None:
    for command in ("run", "report"):
        ran = sim(command, write(tmp_path, item(quantity=-1)))
        assert ran.exit_code == 1
        assert "quantity: must not be negative" in ran.output


def test_one_unreadable_file_hides_no_other(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "good.sim.json")
    write(tmp_path, "{", "bad.sim.json")
    ran = sim("run", tmp_path)
    assert ran.exit_code == 2
    assert "250.00 USD" in ran.output
    assert "bad.sim.json: cannot be read" in ran.output
    write(tmp_path, "x", "README.md")
    (tmp_path / "bad.sim.json").unlink()
    assert sim("validate", tmp_path / "*").exit_code == 0
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep", GOOD)
    assert "2 scenarios" in sim("validate", tmp_path / "*").output


def test_one_bad_scenario_hides_no_other_and_each_is_placed_in_its_file(tmp_path: Path) -> None:
    late = GOOD | {"expected": {"lineItems": [{"total": 250}, {"total": 0}]}}
    path = write(tmp_path, {"scenarios": [item(quantity=-1), {}, GOOD, late]})
    checked = sim("validate", path)
    assert checked.exit_code == 2
    assert checked.stdout.splitlines() == [
        f"{path}: a #1: /scenarios/0/input/usageItems/0/quantity must not be negative",
        f"{path}: a #4: /scenarios/3/expected/lineItems/1 has nothing to compare:"
        " the invoice has 1 items",
    ]
    assert checked.stderr == f"{path}: /scenarios/1/input is required\n"
    ran = sim("run", path)
    assert ran.exit_code == 2
    assert "3 scenarios: 1 agrees, 2 cannot be priced." in ran.stdout


@pytest.mark.parametrize("number", ["1e99999999999999999999", "1e999999", "-1", "true", "[]"])
def test_what_is_no_quantity_is_said_in_one_line(tmp_path: Path, number: str) -> None:
    path = write(tmp_path, json.dumps(item(quantity="Q")).replace('"Q"', number))
    checked = sim("validate", path)
    assert checked.exit_code == 1
    assert checked.output.startswith(f"{path}: a: /input/usageItems/0/quantity ")
    assert len(checked.output.splitlines()) == 1


@pytest.mark.parametrize("form", ["table", "json", "markdown", "html"])
@pytest.mark.parametrize("member", ["\ud800", "\x1b[2J", "\u202e"])
def test_what_cannot_be_printed_is_spelt_out(tmp_path: Path, form: str, member: str) -> None:
    bad = {"input": GOOD["input"] | {member: 1}}  # type: ignore[operator]
    steered = GOOD | {"description": f"a{member[1:]}\x1b[2J"}
    path = write(tmp_path, {"scenarios": [bad, steered]})
    for command in ("run", "report"):
        ran = sim(command, path, "--format", form)
        assert ran.exit_code == 1
        assert member not in ran.output
        assert "\x1b" not in ran.output
        assert "is not a name that is known here" in ran.output


def test_yaml_anchors_may_be_merged_and_overridden(tmp_path: Path) -> None:
    text = """
    input:
      usageItems:
        - metric: a
          quantity: 1
          priceConfig: &price {model: per_unit, currency: usd, unitPrice: 1}
        - {metric: b, quantity: 1000, priceConfig: {<<: *price, unitPrice: 2}}
    expected: {total: 2001}
    """
    assert sim("run", write(tmp_path, text, "a.sim.yaml"), "--fail-on-diff").exit_code == 0


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "a.sim.json"
    path.write_text("\ufeff" + json.dumps(GOOD), encoding="utf-8")
    assert sim("validate", path).exit_code == 0


def test_the_page_shows_figures_and_lines_in_money(tmp_path: Path) -> None:
    html = sim("report", write(tmp_path, GOOD | {"expected": {"total": "249.99"}})).output
    for cells in (
        '<th scope="row">total</th><td class="number">249.99 USD</td>'
        '<td class="number">250.00 USD</td><td class="number">+0.01 USD</td><td>no</td>',
        '<th scope="row">m: unit</th><td class="number">25000</td>'
        '<td class="number">0.01 USD</td><td class="number">250.00 USD</td>',
    ):
        assert cells in html


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.sim.json", json.dumps(GOOD | {"expcted": {}}), "/expcted is not a name that is known"),
        ("a.sim.json", json.dumps(GOOD | {"a/b": {}}), "/a~1b is not a name that is known"),
        (
            "a.sim.json",
            json.dumps(GOOD | {"expected": {"totl": 1}}),
            "/expected/totl is not a name",
        ),
        ("a.sim.json", json.dumps(GOOD | {"expected": {}}), "/expected expects nothing"),
        ("a.sim.json", json.dumps({"scenarios": [GOOD, {}]}), "/scenarios/1/input is required"),
        ("a.sim.json", json.dumps({"scenarios": []}), "/scenarios is empty"),
        ("a.sim.json", json.dumps(GOOD | {"name": "a\x1b[2J"}), "/name holds characters"),
        ("a.sim.json", json.dumps(GOOD | {"name": "\ud800"}), "/name holds a character"),
        ("a.sim.json", "[]", "must be an object"),
        ("a.sim.json", "3", "must be an object"),
        ("a.sim.json", json.dumps(GOOD | {"expected": None}), "/expected expects nothing"),
        ("a.sim.json", json.dumps(GOOD | {"tolerances": []}), "/tolerances must be an object"),
        ("a.sim.json", json.dumps(GOOD | {"\x1b[2J": 1}), r"/\x1b[2J is not a name"),
        ("a.sim.json", json.dumps({"scenarios": None}), "/scenarios is empty"),
        ("a.sim.yaml", "a: !!map x", "expected a mapping node"),
        ("a.sim.yaml", "a: !!int [1]", "expected a scalar node"),
        ("a.sim.yaml", "a: !!float {b: 1}", "expected a scalar node"),
        ("a.sim.json", "{", "cannot be read"),
        ("a.sim.json", '{"a": NaN}', "NaN is not a number"),
        ("a.sim.json", '{"input": 1, "input": 2}', "stands twice"),
        ("a.sim.json", "[" * 100_000, "cannot be read"),
        ("a.sim.yaml", "a: [", "cannot be read"),
        ("a.sim.yaml", "a: 1\na: 2", "stands twice"),
        ("a.sim.yaml", "a: !!python/object/apply:os.system [x]", "cannot be read"),
        ("a.sim.yaml", "? [1, 2]\n: 3", "must be a text"),
        ("a.sim.yaml", "input: &a {usageItems: *a}", "recursive"),
        ("a.sim.yaml", "[" * 5000, "nested too deeply"),
    ],
)
def test_what_cannot_be_read_ends_with_2(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    for command in ("validate", "run", "report"):
        ran = sim(command, write(tmp_path, content, name))
        assert ran.exit_code == 2
        assert said in ran.output
        assert "Traceback" not in ran.output


@pytest.mark.parametrize("typed", ["1_0", "0x1F", "1:30", "yes", "1e999"])
def test_what_only_yaml_takes_for_a_number_is_refused(tmp_path: Path, typed: str) -> None:
    text = (
        f"input: {{usageItems: [{{metric: no, quantity: {typed}, priceConfig:"
        " {model: per_unit, currency: usd, unitPrice: 1}}]}"
    )
    ran = sim("run", write(tmp_path, text, "a.sim.yaml"))
    assert ran.exit_code == 1
    assert "quantity: is not a plain decimal number" in ran.output


def test_places_are_files_folders_and_patterns(tmp_path: Path) -> None:
    inner = tmp_path / "deep" / "er"
    inner.mkdir(parents=True)
    write(inner, GOOD)
    write(tmp_path, GOOD, "b.sim.yml")
    write(tmp_path, GOOD, "not-one.json")
    assert "2 scenarios" in sim("validate", tmp_path).output
    assert "1 scenario," in sim("validate", tmp_path / "**" / "*.sim.json").output
    missing = sim("run", tmp_path / "missing")
    assert missing.exit_code == 2
    assert "there is no scenario file here" in missing.output
    latin = tmp_path / "latin.sim.json"
    latin.write_bytes(b'{"name": "\xe9"}')
    assert "is not UTF-8 text" in sim("run", latin).output


def test_a_report_runs_nothing_that_a_name_says(tmp_path: Path) -> None:
    named = GOOD | {"name": "<script>alert(1)</script> | *x*"}
    out = tmp_path / "report.html"
    ran = sim("report", write(tmp_path, named), "--output", out)
    assert ran.output == f"1 scenario: 1 agrees. Written to {out}.\n"
    html = out.read_text()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "http" not in html
    markdown = sim("report", tmp_path, "--format", "markdown").output
    assert "<script" not in markdown
    assert r"&lt;script&gt;alert(1)&lt;/script&gt; \| \*x\*" in markdown
    denied = sim("report", tmp_path, "--output", tmp_path / "no" / "such" / "folder.html")
    assert denied.exit_code == 2
    assert "Traceback" not in denied.output
