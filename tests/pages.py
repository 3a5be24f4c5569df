"""The tags of a page."""

from html.parser import HTMLParser


class Tags(HTMLParser):
    """Opened and closed tags fit, ids are unique; collects addresses and text.

    ``tables``: rows of each table, as label → text; ``sections``: the text of each section by its id, ``codes`` its code.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.ids, self.addresses, self.words = [], [], [], []
        self.tables, self.sections, self.codes = [], {}, {}
        self._section, self._label = "", None
        self.feed(text)
        assert not self.open

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        self.addresses += [given[key] for key in ("src", "href", "xlink:href") if key in given]
        if tag == "section":
            self._section = given["id"]
            self.sections[self._section] = ""
        elif tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append({})
        elif tag == "td":
            self._label = given["data-label"]
            self.tables[-1][-1][self._label] = ""
        if tag not in ("meta", "link", "img", "br", "hr", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self._label = None if tag == "td" else self._label
        self._section = "" if tag == "section" else self._section

    def handle_data(self, data):
        self.words.append(data)
        if self._section and "svg" not in self.open and "style" not in self.open:
            self.sections[self._section] += f" {data}"
        if "pre" in self.open:
            self.codes.setdefault(self._section, []).append(data)
        if self._label is not None:
            self.tables[-1][-1][self._label] += data
