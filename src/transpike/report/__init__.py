"""What was found, for people: terminal text, JSON, pictures. ``save(result, path)`` draws by the file's ending."""

from transpike.report.picture import draw
from transpike.report.save import save
from transpike.report.terminal import show, text

members = (draw, save, show, text)
