"""A model's name is taken apart as it was meant, or refused with the nearest right thing."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnelscope.errors import RequestError
from tunnelscope.models.preprocessing import Overrides
from tunnelscope.models.spec import parse_model, parse_value


def test_a_name_with_arguments_and_preprocessing():
    spec = parse_model(
        "timm:mobilenetv2_100?pad_type=same&mean=0.5&std=0.5,0.4,0.3&size=32x48&crop_pct=0.875"
    )
    assert (spec.kind, spec.name, spec.path) == ("timm", "mobilenetv2_100", None)
    assert spec.arguments == {"pad_type": "same"}
    assert spec.overrides == Overrides(mean=(0.5,), std=(0.5, 0.4, 0.3), size=(32, 48), crop_pct=0.875)


def test_a_function_in_a_file():
    spec = parse_model("nets/my.net.py:make?depth=3&size=28")
    assert (spec.kind, spec.path, spec.name) == ("file.py", Path("nets/my.net.py"), "make")
    assert spec.arguments == {"depth": 3}
    assert spec.overrides.size == (28, 28)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-3", -3),
        ("0.25", 0.25),
        ("1e-3", 1e-3),
        ("true", True),
        ("False", False),
        ("none", None),
        ("512,256", (512, 256)),
        ("512,", (512,)),
        ("a,0.5,none", ("a", 0.5, None)),
        ("same", "same"),
        ("inf", "inf"),
        ("1_000", "1_000"),
        ("", ""),
    ],
)
def test_values_have_the_type_they_look_like(text, value):
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


def test_percent_signs_write_what_the_query_reserves():
    assert parse_model("zoo:mlp?name=a%26b%3Dc").arguments == {"name": "a&b=c"}


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False, allow_infinity=False)))
def test_a_value_written_out_is_read_back(value):
    assert parse_value(str(value)) == value


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_a_name_or_refused_in_one_line(text):
    for source in (text, f"zoo:mlp?{text}", f"a.py:{text}"):
        assert len(refusal(source).splitlines()) <= 1


def refusal(source: str) -> str:
    try:
        parse_model(source)
    except RequestError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "keras:bert",
            r"no kind of model named 'keras'; there are: timm, torchvision, hf, zoo, file\.py\.",
        ),
        ("tim:resnet18", r"no kind of model named 'tim'; nearest: timm\."),
        ("resnet18", r"'resnet18' does not say where the network comes from\. Write timm:NAME"),
        ("zoo:", r"'zoo:' names no network after 'zoo'"),
        ("zoo:mlp?depth", r"'depth' in 'zoo:mlp\?depth' is no argument; write key=value"),
        ("zoo:mlp?depth=3&depth=4", "gives depth twice"),
        ("zoo:mlp?size=0", "size takes N or HxW in pixels such as 32 or 32x48, got 0 in"),
        ("zoo:mlp?size=big", "size takes N or HxW in pixels such as 32 or 32x48, got 'big'"),
        ("zoo:mlp?mean=grey", "mean takes one number or one per channel such as 0.5,0.5,0.5, got 'grey'"),
        ("zoo:mlp?std=true", "std takes one number or one per channel such as 0.5,0.5,0.5, got True"),
        ("zoo:mlp?crop_pct=all", "crop_pct takes a share such as 0.875, got 'all'"),
    ],
)
def test_what_is_no_model_is_refused(source, message):
    with pytest.raises(RequestError, match=message):
        parse_model(source)
