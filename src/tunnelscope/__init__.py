"""At which layer does a trained network stop building its representation?"""

__version__ = "0.1.0"
