"""What `mkdocs.yml` adds to the pages of docs/: two pages from elsewhere, and a look at the result.

mkdocs calls the functions by their names. Changelog and client's README stay where people look for
them in the repository; links to them lead to their pages here, and links to other files of the
repository are left as text. A site that would fetch something from another host is refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"changelog.md": "CHANGELOG.md", "client.md": "clients/python/README.md"}

_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#)([^)#]+)(#[^)]*)?\)")
# What a browser fetches by itself, as a link that is clicked is not.
_FETCHED = re.compile(
    r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//(?!www\.w3\.org)[^>]*>"
)
_CANONICAL = re.compile(r'rel="?(?:canonical|next|prev)')


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages from elsewhere."""
    for name, source in PAGES.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Have links go to the pages of the site."""
    folder = (ROOT / PAGES.get(page.file.src_uri, f"docs/{page.file.src_uri}")).parent
    named = {ROOT / source: name for name, source in PAGES.items()}

    def translated(link: re.Match[str]) -> str:
        text, target, anchor = link[1], link[2], link[3] or ""
        path = (folder / target).resolve()
        if path in named:
            return f"[{text}]({named[path]}{anchor})"
        if path.is_relative_to(ROOT / "docs"):
            return f"[{text}]({path.relative_to(ROOT / 'docs')}{anchor})"
        if path.is_relative_to(ROOT) and path.exists():
            return f"{text} (`{path.relative_to(ROOT)}`)"
        return link[0]

    return _LINK.sub(translated, markdown)


def on_post_build(*, config: Any) -> None:
    """Refuse a site whose pages fetch something from another host."""
    for path in sorted(Path(config.site_dir).rglob("*.html")):
        for tag in _FETCHED.findall(path.read_text()):
            if not _CANONICAL.search(tag):
                raise PluginError(f"{path.name} fetches from another host: {tag}")
