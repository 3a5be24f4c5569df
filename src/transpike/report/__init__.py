"""Results as text, JSON, pictures and pages; ``save(result, path)`` selects the format by the file extension."""

from transpike.report.page import fragment, page
from transpike.report.picture import draw
from transpike.report.save import check, save, to_json
from transpike.report.terminal import Result as Result
from transpike.report.terminal import show, text
from transpike.results import notebook as display

members = (check, draw, page, save, show, text, to_json)
display.painter = fragment
