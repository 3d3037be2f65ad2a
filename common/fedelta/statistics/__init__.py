"""Statistics over data that stays where it is: counts, sums and histograms, added up over the sites.

A site offers `CsvStatistics`, or a class of its own derived from `Statistics`; `fedelta stats submit` asks, and
`summarize` reads the result. Needs neither torch nor grpc.
"""

from fedelta.statistics._csv import read_columns
from fedelta.statistics._job import job_file
from fedelta.statistics._learner import CsvStatistics, Statistics
from fedelta.statistics._report import SUFFIXES, plain, table, write
from fedelta.statistics._request import Request
from fedelta.statistics._summary import Histogram, Summary, summarize

__all__ = [
    "SUFFIXES",
    "CsvStatistics",
    "Histogram",
    "Request",
    "Statistics",
    "Summary",
    "job_file",
    "plain",
    "read_columns",
    "summarize",
    "table",
    "write",
]
