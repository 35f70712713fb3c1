"""A scan's results as one page to read and as figures to show."""

from tunnelscope.report.page import write_report
from tunnelscope.report.specs import write_figures

__all__ = ["write_figures", "write_report"]
