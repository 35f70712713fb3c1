"""Sources of labelled images, what networks do to them, and batches of them."""

from tunnelscope.data.arrays import as_split
from tunnelscope.data.corrupt import Skipped, leave_out
from tunnelscope.data.dataset import DataSet, Fingerprint, Images, Split, digest_of
from tunnelscope.data.duplicates import Prints, Thumbnails, as_digests, equal_pairs, like_pairs, load_prints
from tunnelscope.data.images import ChosenImages, place_of
from tunnelscope.data.load import load_data, load_draws, unique_keys
from tunnelscope.data.loader import batches, image_shape
from tunnelscope.data.text import Tokenisation, token_batches
from tunnelscope.data.transforms import Preprocessing, preprocess

__all__ = [
    "ChosenImages",
    "DataSet",
    "Fingerprint",
    "Images",
    "Preprocessing",
    "Prints",
    "Skipped",
    "Split",
    "Thumbnails",
    "Tokenisation",
    "as_digests",
    "as_split",
    "batches",
    "digest_of",
    "equal_pairs",
    "image_shape",
    "leave_out",
    "like_pairs",
    "load_data",
    "load_draws",
    "load_prints",
    "place_of",
    "preprocess",
    "token_batches",
    "unique_keys",
]
