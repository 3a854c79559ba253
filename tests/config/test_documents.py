"""YAML is read without surprises and every error says where."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from iotbill_pipelines.config.documents import ConfigError, parse, parse_yaml, read_yaml


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    rate: Decimal = Decimal(0)


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid")
    title: str
    parts: list[Part]


TENFOLD_LISTS = "title: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
TENFOLD_MERGES = "title: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 12)
)


def document(text: str):
    return parse_yaml(text, Path("configs/x.yaml"))


def test_scalars_keep_their_meaning():
    data = document("a: 0.1\nb: 07\nc: NO\nd: 12:30\ne: 7\nf: true\ng: 1_000\nh: -0.50\n").data
    assert data == {
        "a": Decimal("0.1"), "b": "07", "c": "NO", "d": "12:30", "e": 7, "f": True,
        "g": "1_000", "h": Decimal("-0.50"),
    }  # fmt: skip
    assert isinstance(data["a"], Decimal)


def test_lines_of_keys_and_elements():
    doc = document("title: x\nparts:\n  - name: a\n  - name: b\n    rate: 1\n")
    assert doc.line(("parts", 1, "rate")) == 5
    assert doc.line(("parts", 1, "absent")) == 4


@pytest.mark.parametrize(
    ("text", "line", "key", "said"),
    [
        ("title: x\nparts:\n  - nmae: a\n", 3, ("parts", 0, "nmae"), "did you mean 'name'?"),
        ("title: x\nparts:\n  - name: 5\n", 3, ("parts", 0, "name"), "put it in quotes"),
        ("title: x\nparts:\n  - rate: 1\n", 3, ("parts", 0, "name"), "required key is missing"),
        ("title: x\ntitle: y\n", 2, ("title",), "written twice (first on line 1)"),
        ("title: x\n\tparts: []\n", 2, (), "indent with blanks"),
        ("title: [x\n", 2, (), "not valid YAML"),
        ("- 1\n", 1, (), "expected a mapping"),
        ("", 1, (), "expected a mapping"),
        ("a: &a [*a]\n", 1, (), "an anchor that holds itself"),
        ("a: " + "[" * 200 + "]" * 200, 1, (), "nested more than 100 deep"),
        ("a: " + "[" * 100_000, 1, (), "nested more than 100 deep"),
        ("- " * 100_000, 1, (), "nested more than 100 deep"),
        (TENFOLD_LISTS, 7, (), "stands for more than 1,000,000 values"),
        (TENFOLD_MERGES, 7, (), "stands for more than 1,000,000 values"),
    ],
)
def test_errors_name_file_line_and_key(text, line, key, said):
    with pytest.raises(ConfigError) as caught:
        parse(Whole, document(text))
    problems = {(p.line, p.key): p.rule for p in caught.value.problems}
    assert said in problems[line, key]
    assert str(caught.value).startswith(f"configs/x.yaml:{caught.value.line}: ")


def test_all_problems_at_once_in_file_order():
    with pytest.raises(ConfigError) as caught:
        parse(Whole, document("titel: x\nparts:\n  - name: a\n    rate: abc\n"))
    assert [p.line for p in caught.value.problems] == [1, 1, 4]


def test_missing_and_undecodable_files(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path / "absent.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_bytes(b"a: \xff\n")
    with pytest.raises(ConfigError, match="save it as UTF-8"):
        read_yaml(bad)
