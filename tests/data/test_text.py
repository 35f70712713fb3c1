"""Texts: their column is found, they are part of the fingerprint, and bad ones end in one line."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_images import fingerprint, write_parquet

from tunnelscope.data import Split, Tokenisation, as_split, image_shape, load_data, token_batches
from tunnelscope.errors import RequestError

TEXTS = ["who wrote it ?", "where is it ?", "", "how many are there ?", "why ?", "größe 🙂"]
LABELS = [0, 1, 0, 1, 1, 0]


def write_texts(path, columns, names=("person", "place")):
    features = {"label": {"names": list(names), "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    return path


@pytest.fixture
def questions(tmp_path):
    """A parquet folder of texts in the hub's form."""
    write_texts(tmp_path / "questions/train-00000-of-00001.parquet", {"text": TEXTS, "label": LABELS})
    write_texts(tmp_path / "questions/test-00000-of-00001.parquet", {"text": TEXTS[:2], "label": LABELS[:2]})
    return tmp_path / "questions"


class Letters:
    """A tokenizer that makes one token of each letter, as a fast one of transformers answers."""

    def __call__(self, texts, truncation, max_length, padding):
        assert (truncation, padding) == (True, False)
        self.input_ids = [[ord(letter) for letter in text][:max_length] for text in texts]
        cut = [len(text) > max_length for text in texts]
        self.encodings = [type("Encoding", (), {"overflowing": [1] * is_cut}) for is_cut in cut]
        return self

    def __getitem__(self, name):
        return getattr(self, name)


LETTERS = Tokenisation(max_length=8, vocabulary=0x110000, load=Letters)


def test_a_text_column_is_found_beside_its_label(questions):
    data = load_data(str(questions))
    assert [data.train.images[index] for index in range(6)] == TEXTS
    assert data.train.labels.tolist() == LABELS
    assert (data.train.kind, data.class_names) == ("texts", ("person", "place"))
    assert data.notes[:2] == ("text column: text", "label column: label")
    assert image_shape(data.train) is None


def test_the_query_names_text_and_label_columns(tmp_path):
    columns = {"title": ["a", "b", "b", "a"], "body": ["x", "y", "z", "w"], "label": [0, 1, 0, 1]}
    path = write_texts(tmp_path / "news.parquet", columns)
    with pytest.raises(
        RequestError, match=r"several text columns: title, body; choose one with \?text=COLUMN"
    ):
        load_data(str(path))
    assert load_data(f"{path}?text=body").train.images[0] in columns["body"]
    by_title = load_data(f"{path}?text=body&label=title")
    assert by_title.class_names == ("a", "b")


def test_images_come_before_texts_unless_the_text_is_named(tmp_path):
    captions = pa.array(["a cat", "a dog", "a cat", "a dog"])
    path = write_parquet(tmp_path / "both.parquet", [0, 1, 0, 1], extra={"caption": captions})
    assert load_data(str(path)).train.kind == "images"
    assert load_data(f"{path}?text=caption").train.kind == "texts"
    with pytest.raises(RequestError, match="text= and image= both name a column"):
        load_data(f"{path}?text=caption&image=img")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?text=txet", "no column named 'txet'; nearest: text"),
        ("?text=label", "column 'label' of questions holds int64, not text; text columns: text"),
        ("?image=text", "column 'text' of questions holds string, not encoded images"),
        ("?size=32", "size= is for images; questions holds texts"),
        ("?max_length=0", "max_length must be a positive integer"),
    ],
)
def test_what_does_not_fit_texts_is_refused(questions, query, words):
    with pytest.raises(RequestError, match=words):
        load_data(f"{questions}{query}")


def test_max_length_is_refused_for_images(animals):
    with pytest.raises(RequestError, match="max_length= is for texts; animals holds images"):
        load_data(f"{animals}?max_length=8")


def test_a_row_without_a_text_is_named(tmp_path):
    path = write_texts(tmp_path / "gap.parquet", {"text": ["a", None, "b", "c"], "label": [0, 1, 0, 1]})
    with pytest.raises(RequestError, match=r"row 1 of gap.parquet holds no text \(null\)"):
        load_data(str(path))


def test_fingerprints_tell_texts_apart_and_where_they_end(tmp_path):
    def printed(texts, labels):
        return fingerprint(load_data({"train": (texts, labels)}))

    one = printed(["ab", "c", "ab", "c"], [0, 1, 0, 1])
    assert one == printed(["ab", "c", "ab", "c"], [0, 1, 0, 1])
    assert one != printed(["a", "bc", "a", "bc"], [0, 1, 0, 1])
    assert one != printed(["ab", "c", "ab", "C"], [0, 1, 0, 1])


def test_fewer_rows_keep_the_max_length(questions):
    data = load_data(f"{questions}?max_length=5")
    fewer = load_data(data, max_samples=2)
    assert (len(fewer.train), fewer.train.max_length, fewer.train.kind) == (2, 5, "texts")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=30), st.integers(1, 7))
def test_each_text_is_in_one_batch_of_texts_as_long_as_it(texts, batch_size):
    seen = {}
    for rows, tokens in token_batches(as_split(texts).images, LETTERS, batch_size=batch_size):
        assert tokens.dtype == torch.int64
        assert len(rows) == len(tokens) <= batch_size
        seen |= {int(row): one.tolist() for row, one in zip(rows, tokens, strict=True)}
    assert seen == {index: [ord(letter) for letter in text[:8]] for index, text in enumerate(texts)}


def test_what_is_cut_off_or_empty_is_counted():
    said = []
    texts = as_split(["short", "much too long", "also too long", " "]).images
    lengths = [tokens.shape[1] for _, tokens in token_batches(texts, LETTERS, batch_size=9, warn=said.append)]
    assert lengths == [1, 5, 8]
    assert said == ["2 of 4 texts are longer than 8 tokens and cut off there", "1 of 4 texts are empty"]
    shorter = token_batches(texts, LETTERS, batch_size=9, max_length=3)
    assert max(tokens.shape[1] for _, tokens in shorter) == 3


def test_a_text_that_gives_no_token_is_named():
    with pytest.raises(RequestError, match="text 1 of texts gives no token: ''; take the row out"):
        next(token_batches(as_split(["a", ""]).images, LETTERS, batch_size=2))


def test_an_item_that_is_no_text_is_named():
    with pytest.raises(RequestError, match="is no text but a float"):
        next(token_batches(Split([0.5], np.zeros(1, dtype=np.int64)).images, LETTERS, batch_size=2))
