"""Sources of labelled images, what networks do to them, and batches of them."""

from tunnelscope.data.arrays import as_split
from tunnelscope.data.corrupt import Skipped, leave_out
from tunnelscope.data.dataset import DataSet, Fingerprint, Images, Split
from tunnelscope.data.images import place_of
from tunnelscope.data.load import load_data, load_draws, unique_keys
from tunnelscope.data.loader import batches, image_shape
from tunnelscope.data.text import Tokenisation, token_batches
from tunnelscope.data.transforms import Preprocessing, preprocess

__all__ = [
    "DataSet",
    "Fingerprint",
    "Images",
    "Preprocessing",
    "Skipped",
    "Split",
    "Tokenisation",
    "as_split",
    "batches",
    "image_shape",
    "leave_out",
    "load_data",
    "load_draws",
    "place_of",
    "preprocess",
    "token_batches",
    "unique_keys",
]
