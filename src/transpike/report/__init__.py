"""Results as text, JSON, pictures and pages; ``save(result, path)`` selects the format by the file extension."""

from transpike.report._contents import tables
from transpike.report._table import Table as Table
from transpike.report.overview import overview
from transpike.report.page import fragment, page
from transpike.report.picture import draw
from transpike.report.save import check, save, save_tables, to_json
from transpike.report.subject import Subject as Subject
from transpike.report.terminal import Result as Result
from transpike.report.terminal import show, text
from transpike.report.widget import widget
from transpike.results import notebook as display

members = (check, draw, overview, page, save, save_tables, show, tables, text, to_json, widget)
display.painter = fragment
