"""What an OOD set shares with the ID set is found, and nothing is found where there is nothing."""

import json
from dataclasses import replace

import numpy as np
import pytest

import tunnelscope as ts
from test_health import brighter, data, fitted, images
from tunnelscope.data import load_data
from tunnelscope.health import FEW_LIKE
from tunnelscope.leakage import shared_classes, synonyms
from tunnelscope.report.study import leakage_rows

# names of classes


@pytest.mark.parametrize(
    ("own", "other"),
    [
        ("pickup_truck", "Pickup truck"),
        ("t-shirt", "T_shirt"),
        ("tench, Tinca tinca", "Tinca tinca"),
        ("tench, Tinca tinca", "great fish,  TENCH "),
        ("001.ak47", "ak47"),
        ("n01440764", "n01440764"),
    ],
)
def test_one_class_in_two_spellings_is_shared(own, other):
    assert shared_classes(["x", own], [other, "y"]) == ((own, other),)


@pytest.mark.parametrize(
    ("own", "other"),
    [
        ("truck", "pickup_truck"),
        ("crab", "cra"),
        ("A300-600", "A300"),
        ("707-320", "707 200"),
        ("7", "seven"),
    ],
)
def test_parts_of_names_are_not_shared(own, other):
    assert not shared_classes(["x", own], [other, "y"])


@pytest.mark.parametrize(
    "name", ["0", "17", "class 3", "Class_3", "label-12", "category 0", "-1", "2.0", "", " , "]
)
def test_a_number_is_no_name(name):
    assert synonyms(name) == []
    assert shared_classes([name, "cat"], [name, "dog"]) == ()


def test_sets_of_numbered_classes_say_nothing():
    assert shared_classes(["0", "1"], ["0", "1"]) is None
    assert shared_classes(["cat", "dog"], ["0", "1"]) is None
    assert shared_classes(["C-130", "Boeing 707"], ["c 130", "DH-82"]) == (("C-130", "c 130"),)


def test_the_real_sets_share_the_classes_that_they_share(real_data):
    names = {
        key: load_data(f"{real_data}/{key}").class_names for key in ("cifar10", "cifar100", "caltech101")
    }
    assert shared_classes(names["cifar10"], names["cifar100"]) == ()
    both = {own for own, _ in shared_classes(names["cifar100"], names["caltech101"]) or ()}
    assert both == {"butterfly", "chair", "dolphin", "elephant", "kangaroo", "lamp", "sunflower"}


# images, in a scan


def named(source, key, *names):
    """The set with names of its classes."""
    return replace(load_data(source), key=key, class_names=names)


def planted():
    """A set whose test images 3 and 60 equal training images of `data()`, and 9 is one in other contrast."""
    (train, _), (test, labels) = images(240), images(150, 6)
    test[3], test[60], test[9] = train[11], train[12], brighter(train[20])
    other, other_labels = images(240, 5)
    other[0] = train[11]
    return {"train": (other, other_labels), "test": (test, labels)}


def test_planted_copies_and_names_are_found_and_told_everywhere(tmp_path):
    own, other = named(data(), "own", "cat", "dog", "tench, Tinca tinca"), planted()
    other = named(other, "other", "CAT", "cow", "tinca_tinca")
    clean = named({"train": images(240, 7), "test": images(150, 8)}, "clean", "ant", "bee", "fly")
    scan = ts.scan(fitted(), id=own, ood=[other, clean], probe="ridge", out=tmp_path / "run", cache=False)
    told = scan.run["leakage"]["other"]
    assert told["shared_classes"] == [["cat", "CAT"], ["tench, Tinca tinca", "tinca_tinca"]]
    assert (told["equal"], told["like"], told["equal_train"], told["n_test"]) == (2, 1, 1, 150)
    assert told["share"] == pytest.approx(3 / 150)
    assert [pair[0].split(" of ")[0] for pair in told["examples"]] == ["image 3", "image 60", "image 9"]
    assert told["is_leaking"]
    assert len(told["reasons"]) == 2
    nothing = {"shared_classes": [], "equal": 0, "like": 0, "equal_train": 0, "share": 0.0, "n_test": 150}
    assert scan.run["leakage"]["clean"] == nothing | {"examples": [], "is_leaking": False, "reasons": []}
    lines = [line for line in scan.run["warnings"] if "network's own data" in line]
    assert lines[0].startswith("other: 2 of 3 classes are in own too, the network's own data (cat, tench")
    assert "2 of 150 test images are training images of own and 1 more nearly equal" in lines[1]
    assert len(lines) == 2
    values = scan.table().set_index(["dataset", "quantity"])["value"]
    assert values["other", "shared_classes"] == 2
    assert values["other", "known_images"] == pytest.approx(3 / 150)
    assert values["clean", "known_images"] == values["clean", "shared_classes"] == 0
    page = (tmp_path / "run" / "report.html").read_text()
    section = page.partition('<section id="leakage">')[2].partition("</section>")[0]
    assert "2: cat = CAT, tench, Tinca tinca = tinca_tinca" in section
    assert section.count("nothing found") == 1
    assert json.loads((tmp_path / "run" / "run.json").read_text())["leakage"]["other"] == told


def test_near_copies_alone_are_warned_of():
    (train, _), (test, labels) = images(240), images(150, 6)
    test[9] = brighter(train[20])
    run = ts.scan(
        fitted(), id=data(), ood={"o": {"train": images(240, 5), "test": (test, labels)}}, probe="ridge"
    ).run
    (line,) = (line for line in run["warnings"] if "network's own data" in line)
    assert line.startswith("o: 1 of 150 test images nearly equal training images of")
    assert "(first: image 9 of" in line
    assert run["leakage"]["o"]["shared_classes"] is None  # arrays have numbers for classes
    assert run["leakage"]["o"]["share"] > FEW_LIKE


def test_digits_of_other_classes_share_nothing():
    source = "sklearn:digits?classes={}&per_class=30"
    model = "zoo:mlp?depth=2&width=8"
    run = ts.scan(model, id=source.format("0-4"), ood=source.format("5-9"), probe="ridge", cache=False).run
    (told,) = run["leakage"].values()
    assert told["shared_classes"] is None  # 0 to 9 are numbers
    assert told["like"] is None  # 8 × 8 pixels are too few to tell
    assert (told["equal"], told["is_leaking"]) == (0, False)
    assert not [line for line in run["warnings"] if "own data" in line]


def test_without_an_id_set_there_is_nothing_to_share():
    scan = ts.scan(fitted(), ood={"o": data()}, probe="ridge")
    assert scan.run["leakage"] is None
    assert not scan.table()["quantity"].isin(["shared_classes", "known_images"]).any()


def test_given_features_are_compared_row_by_row():
    draws = np.random.default_rng(0)
    labels = np.arange(60) % 3
    own, other, test = (draws.normal(size=(60, 4)).astype(np.float32) for _ in range(3))
    test[5] = own[7]
    sets = {"train": (other, labels), "test": (test, labels)}
    scan = ts.scan_features(
        id={"train": (own, labels), "test": (own + 1, labels)}, ood={"o": sets}, probe="ridge", cache=False
    )
    told = scan.run["leakage"]["o"]
    assert (told["equal"], told["like"], told["is_leaking"]) == (1, None, True)


def test_draws_of_classes_share_together_what_one_of_them_does():
    model = "zoo:mlp?depth=2&width=8"
    drawn = "sklearn:digits?classes=random:3&draws=2&per_class=20"
    digits = load_data("sklearn:digits?classes=0-4")
    own = replace(digits, key="own", train=digits.test, test=digits.train)  # what others have as test images
    scan = ts.scan(model, id=own, ood=drawn, probe="ridge", cache=False)
    values = scan.table().query("quantity == 'known_images'").set_index("dataset")["value"]
    assert values["digits"] > 0
    assert values["digits"] == max(values["digits#1"], values["digits#2"])


def test_a_studys_report_counts_the_networks_of_what_is_shared():
    def found(*reasons):
        return {"reasons": list(reasons), "is_leaking": bool(reasons)}

    networks = [
        {"network": "a", "id": "x", "leakage": {"y": found("shares 1 class with x (cat)"), "z": found()}},
        {"network": "b", "id": "x", "leakage": {"y": found("shares 1 class with x (cat)")}},
        {"network": "c", "id": "y", "leakage": None},  # not scanned, or by a version that did not look
        {"network": "d", "id": "y"},
    ]
    assert leakage_rows({"networks": networks}) == [["x", "y", "shares 1 class with x (cat)", "2"]]
