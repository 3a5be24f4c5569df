"""The source of the documentation site: pages of this folder, and pages made from the package and from its measurements.

    python docs/build.py [FOLDER]      # FOLDER/pages and FOLDER/mkdocs.yml, by default in build/docs
    python docs/build.py --pictures    # the drawings in docs/pictures, which are committed
    python docs/build.py --outputs     # what the examples of the commands print, which is committed too (minutes);
                                       # --outputs train convert push: only these

``make docs`` turns them into HTML. No page that is made here is committed, so that
none can differ from the package.
"""

import argparse
from pathlib import Path

from sitepages.drawings import DRAWINGS


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the source of the documentation site.")
    default = Path(__file__).resolve().parents[1] / "build/docs"
    parser.add_argument("folder", nargs="?", type=Path, default=default)
    parser.add_argument("--pictures", action="store_true", help="Draw the pictures of the pages on concepts again.")
    parser.add_argument(
        "--outputs", nargs="*", metavar="COMMAND", help="Run the examples of the commands and store what they print."
    )
    given = parser.parse_args()
    if given.pictures:
        for name, draw in DRAWINGS.items():
            (Path(__file__).parent / f"pictures/{name}.svg").write_text(str(draw()), encoding="utf-8")
        return
    if given.outputs is not None:
        from sitepages.commands import record

        record(given.outputs)
        return
    from sitepages.site import build  # imports torch

    pages = build(given.folder)
    print(f"{len(pages)} pages in {given.folder}")


if __name__ == "__main__":
    main()
