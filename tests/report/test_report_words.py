import pytest

from tunnelscope.report import words


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (words.percent(0.61849), "61.8 %"),
        (words.percent(None), "–"),
        (words.percent(float("nan")), "–"),
        (words.percent_range({"low": 0.601, "high": 0.634}), "60.1–63.4 %"),
        (words.percent_range({"low": None, "high": 0.5}), ""),
        (words.percent_range(None), ""),
        (words.decimal(-0.123), "−0.12"),
        (words.decimal_range({"low": -0.1, "high": 0.25}), "−0.10 to 0.25"),
        (words.count(853018), "853,018"),
        (words.count(1_250_000), "1.2 M"),
        (words.count(4.1e9), "4.1 G"),
        (words.count(None), "–"),
        (words.significant(1250.4), "1,250"),
        (words.significant(12.54), "12.5"),
        (words.significant(0.01234), "0.012"),
        (words.significant(0.0000123), "1.23e−05"),
        (words.significant(0), "0.000"),
        (words.seconds(0.84), "0.8 s"),
        (words.seconds(323.2), "5 min 23 s"),
        (words.shape([16, 32, 32]), "16 × 32 × 32"),
        (words.shape(None), "–"),
        (words.shorten("layer2.3"), "layer2.3"),
    ],
)
def test_numbers_are_written_for_a_reader(written, expected):
    assert written == expected


def test_shortened_names_keep_their_end_and_their_length():
    name = "model.encoder.blocks.very_long_module_name.sub_layer.24"
    assert words.shorten(name) == "model.enc…_name.sub_layer.24"
    assert len(words.shorten(name)) == 28
