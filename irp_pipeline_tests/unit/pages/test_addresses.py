"""The addresses of pages: what names contain stays within its part."""

from urllib.parse import parse_qs, urlsplit

from irp_pipeline.pages.addresses import Addresses


def test_an_address_names_a_schema_only_if_it_is_not_the_uis_own() -> None:
    assert Addresses().cycle("Q1-2024") == "/irp/cycles/Q1-2024"
    assert Addresses("test").cycle("Q1-2024") == "/irp/cycles/Q1-2024?schema=test"
    assert Addresses("test").style() == "/irp/style.css"


def test_values_stay_within_their_part() -> None:
    odd = "a/b?c=d&e#f é%2F+\"'<"
    address = Addresses(odd).results("Q1", analysis=odd, by="A+B", after=("x", odd), batch=None)
    parts = urlsplit(address)
    assert parts.path == "/irp/cycles/Q1/results"
    assert parse_qs(parts.query) == {"analysis": [odd], "by": ["A+B"], "after": ["x", odd], "schema": [odd]}
    assert not parts.fragment
    assert Addresses().batch(7, status="") == "/irp/batches/7"
