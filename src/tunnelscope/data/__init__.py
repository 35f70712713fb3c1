"""From a source to labelled images, ready for a network."""
