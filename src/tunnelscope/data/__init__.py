"""Sources of labelled images, what networks do to them, and batches of them."""

from tunnelscope.data.dataset import DataSet, Fingerprint, Images, Split
from tunnelscope.data.load import load_data, unique_keys
from tunnelscope.data.loader import batches, image_shape
from tunnelscope.data.transforms import Preprocessing, preprocess
from tunnelscope.data.unlabelled import unlabelled

__all__ = [
    "DataSet",
    "Fingerprint",
    "Images",
    "Preprocessing",
    "Split",
    "batches",
    "image_shape",
    "load_data",
    "preprocess",
    "unique_keys",
    "unlabelled",
]
