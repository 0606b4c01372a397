#!/usr/bin/env python3
"""Makes a corpus of real prose from the documentation of the crates that the build downloaded.

In:    Cargo.lock, through `cargo metadata`, and the crates' folders in cargo's own cache. Neither libtorch nor a build.
Out:   one JSON object a line: id, crate, version, path, line, title, text. Sorted by crate, version, path and line.
Keeps: nothing. The same Cargo.lock gives the same bytes on every machine.
Fails: with cargo's own message, if cargo cannot list the crates.

A paragraph is prose from README*.md or from the doc comments in a crate's Rust sources: 60 to 1,200 characters that end
like a sentence, without code blocks, tables, badges and HTML. No text occurs twice.

It lies here rather than in benches/ because the demo and the tests use it as much as the benchmarks do.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import AbstractSet, Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

REPOSITORY = Path(__file__).resolve().parent.parent
PARAGRAPHS_MAX = 6_000
TEXT_CHARACTERS_MIN = 60
TEXT_CHARACTERS_MAX = 1_200
WORDS_MIN = 6
# Prose is mostly letters. Text with a smaller share of them is a list of symbols, a formula or a table.
LETTERS_SHARE_MIN = 0.65
# Larger sources are generated bindings, which contain no prose.
SOURCE_BYTES_MAX = 1_500_000
# The crates that a build needs differ by platform. The list of one platform makes the corpus the same on all of them.
PLATFORM = "x86_64-unknown-linux-gnu"
SKIPPED_FILES = re.compile(r"(?:.*_)?tests?(?:_.*)?\.rs")
SKIPPED_FOLDERS = {"tests", "test", "benches", "examples", "target", "fuzz", ".git", ".github"}


class Crate(NamedTuple):
    name: str
    version: str
    folder: Path


class Paragraph(NamedTuple):
    crate: str
    version: str
    path: str
    line: int
    title: str
    text: str

    @property
    def id(self) -> str:
        return f"{self.crate}-{self.version}/{self.path}#{self.line}"

    def as_record(self) -> Dict[str, object]:
        return {"id": self.id, **self._asdict()}


class CorpusError(Exception):
    """A problem that the user can solve, in the form `where: what is wrong; expected what (what to do)`."""


# ---------------------------------------------------------------------------------------------------------------------
# The crates


def cargo_metadata(repository: Path) -> Dict[str, Any]:
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", PLATFORM]
    # Offline first: that is faster, and after a build everything is in the cache. Otherwise cargo downloads what is missing.
    for extra in (["--offline"], []):
        try:
            done = subprocess.run([*command, *extra], cwd=repository, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        except OSError as error:
            raise CorpusError(f"cargo: it does not start: {error}; expected cargo on PATH (run `make setup`)") from error
        if done.returncode == 0:
            return json.loads(done.stdout)
    raise CorpusError(
        f"`{' '.join(command)}`: failed with exit code {done.returncode}; expected the crates of Cargo.lock. cargo says:\n"
        f"{done.stderr.decode(errors='replace').strip()}"
    )


def locked_crates(repository: Path = REPOSITORY) -> List[Crate]:
    """The dependencies pinned by Cargo.lock, sorted, without the crates of this repository itself."""
    metadata = cargo_metadata(repository)
    resolved = {node["id"] for node in metadata["resolve"]["nodes"]}
    crates = [
        Crate(package["name"], package["version"], Path(package["manifest_path"]).parent)
        for package in metadata["packages"]
        if package["source"] is not None and package["id"] in resolved
    ]
    return sorted(crate for crate in crates if crate.folder.is_dir())


def documents(crate: Crate) -> Iterator[Tuple[str, str]]:
    """The path within the crate and the text of each README and Rust source, sorted by path."""
    found = []
    for folder, subfolders, names in os.walk(crate.folder):
        subfolders[:] = [name for name in subfolders if name not in SKIPPED_FOLDERS]
        for name in names:
            if name.endswith(".rs") and not SKIPPED_FILES.fullmatch(name) or re.fullmatch(r"(?i)readme.*\.md", name):
                path = Path(folder) / name
                found.append((path.relative_to(crate.folder).as_posix(), path))
    for relative, path in sorted(found):
        if path.stat().st_size <= SOURCE_BYTES_MAX:
            yield relative, path.read_text(encoding="utf-8", errors="replace")


# ---------------------------------------------------------------------------------------------------------------------
# Doc comments


class Block(NamedTuple):
    """Lines of Markdown with their line numbers, and a title for the lines before the first heading."""

    lines: List[Tuple[int, str]]
    title: str


# Consecutive lines of the same kind, outer (`///`) or inner (`//!`); four slashes are an ordinary comment.
DOC_RUN = re.compile(r"^[ \t]*//([/!])(?!/).*\n?(?:[ \t]*//\1(?!/).*\n?)*", re.MULTILINE)
DOC_MARK = re.compile(r"^[ \t]*//[/!][ \t]?|\r$")
ITEM = re.compile(
    r"^\s*(?:pub(?:\([^)]*\))?\s+)?(?:default\s+)?(?:const\s+)?(?:async\s+)?(?:unsafe\s+)?(?:extern\s+\"[^\"]*\"\s+)?"
    r"(fn|struct|enum|trait|mod|type|union|const|static|macro_rules!|impl)(?!\w)\s*(?:<[^>]*>\s*)?(?:mut\s+)?([A-Za-z_]\w*)"
)
MEMBER = re.compile(r"^\s*(?:pub(?:\([^)]*\))?\s+)?(r#)?([A-Za-z_]\w*)")


def item_title(lines: Sequence[str], index: int) -> str:
    """What the doc comment before this line describes: `struct Foo`, `fn bar`, or the name of a field or variant."""
    depth = 0
    for line in lines[index : index + 12]:
        stripped = line.strip()
        # Attributes stand between a comment and its item, and may span several lines.
        if depth > 0 or stripped.startswith("#["):
            depth += line.count("[") - line.count("]")
            continue
        if not stripped or stripped.startswith("//"):
            continue
        item = ITEM.match(line)
        if item and item[1] == "impl":
            return stripped.rstrip("{} ")
        if item:
            return f"{item[1].replace('macro_rules!', 'macro')} {item[2]}"
        member = MEMBER.match(line)
        return member[2] if member else ""
    return ""


def module_title(crate: str, path: str) -> str:
    """`serde::de::value` for src/de/value.rs of serde."""
    parts = [part for part in re.sub(r"\.rs$", "", path).split("/") if part not in ("src", "lib", "main", "mod")]
    return "::".join([crate.replace("-", "_"), *parts])


def rust_blocks(crate: str, path: str, text: str) -> Iterator[Block]:
    module = module_title(crate, path)
    lines = text.split("\n")
    index, scanned = 0, 0
    for run in DOC_RUN.finditer(text):
        index += text.count("\n", scanned, run.start())
        scanned = run.start()
        block = [(index + offset, DOC_MARK.sub("", line)) for offset, line in enumerate(run[0].rstrip("\n").split("\n"), start=1)]
        yield Block(block, module if run[1] == "!" else item_title(lines, index + len(block)) or module)


# ---------------------------------------------------------------------------------------------------------------------
# Markdown


FENCE = re.compile(r"^\s{0,3}(?:>\s*)*(```+|~~~+)")
QUOTE = re.compile(r"^\s{0,3}(?:>\s?)+")
HEADING = re.compile(r"^\s{0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
UNDERLINE = re.compile(r"^\s{0,3}(=+|-{3,})\s*$")
LIST_ITEM = re.compile(r"^\s*(?:[-*+]|\d{1,3}[.)])\s+(.*)$")
REFERENCE = re.compile(r"^\s{0,3}\[([^\]]+)\]:")
RULE = re.compile(r"^\s{0,3}([-*_])(?:\s*\1){2,}\s*$")
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
# Headings that mean nothing without the name of the item that they belong to.
SHARED_HEADINGS = {
    "arguments",
    "cancel safety",
    "errors",
    "example",
    "examples",
    "note",
    "notes",
    "panic",
    "panics",
    "parameters",
    "remarks",
    "returns",
    "safety",
    "usage",
}


def blank_comments(lines: List[Tuple[int, str]]) -> List[Tuple[int, str]]:
    """Cuts HTML comments out; the lines keep their numbers."""
    if not any("<!--" in line for _, line in lines):
        return lines
    text = COMMENT.sub(lambda match: "\n" * match[0].count("\n"), "\n".join(line for _, line in lines))
    return [(number, line) for (number, _), line in zip(lines, text.split("\n"))]


def titled(item: str, heading: str) -> str:
    heading = plain(heading)
    if not heading:
        return item
    return f"{item}: {heading}" if heading.lower().rstrip(":") in SHARED_HEADINGS else heading


def is_break(line: str) -> bool:
    """Whether the line ends a paragraph without being part of one, like tables, HTML, rules, link references, empty lines."""
    stripped = line.strip()
    return (
        not stripped
        or stripped.startswith(("|", "<", "[!["))
        or stripped[0] in "-*_"
        and bool(RULE.match(line))
        or stripped[0] == "["
        and bool(REFERENCE.match(line))
        or stripped.count(" | ") >= 2
    )


def paragraphs(block: Block) -> Iterator[Tuple[int, str, str]]:
    """Line, title and raw text of each paragraph and list item of a block of Markdown."""
    title, start = block.title, 0
    parts: List[str] = []
    fence, blank, in_list = "", True, False

    def take() -> Iterator[Tuple[int, str, str]]:
        if parts:
            yield start, title, " ".join(parts)
            parts.clear()

    for number, raw in blank_comments(block.lines):
        opened = FENCE.match(raw) if "```" in raw or "~~~" in raw else None
        if fence:
            # A fence is closed by at least as many of the same marks, with nothing after them.
            if opened and opened[1].startswith(fence) and not raw.strip().strip("`~> "):
                fence = ""
            continue
        if opened:
            yield from take()
            fence, blank = opened[1], True
            continue
        line = QUOTE.sub("", raw) if ">" in raw else raw
        heading = HEADING.match(line) if "#" in line else None
        item = LIST_ITEM.match(line)
        indented = line.startswith(("    ", "\t"))
        if heading:
            yield from take()
            title, blank, in_list = titled(block.title, heading[2]), True, False
        elif parts and not blank and UNDERLINE.match(line):
            title = titled(block.title, " ".join(parts))
            parts.clear()
            blank, in_list = True, False
        elif is_break(line):
            yield from take()
            blank = True
        elif indented and blank and not in_list:
            # Code, because it is indented. `blank` stays true, so that the lines after it are taken for code too.
            continue
        elif item:
            yield from take()
            start, blank, in_list = number, False, True
            parts.append(item[1])
        else:
            if blank and not indented:
                in_list = False
            if not parts:
                start = number
            parts.append(line.strip())
            blank = False
    yield from take()


# ---------------------------------------------------------------------------------------------------------------------
# Prose


IMAGE = re.compile(r"!\[[^\]]*\](?:\([^)]*\)|\[[^\]]*\])")
LINK = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\])+)\](?:\([^()\s]*(?:\([^()]*\)[^()\s]*)*(?:\s+\"[^\"]*\")?\)|\[[^\]]*\])")
SHORTCUT = re.compile(r"\[([^\[\]]+)\]")
CODE_NAME = re.compile(r"`[^`]+`|[A-Za-z_][\w:]*(?:\(\))?!?")
AUTOLINK = re.compile(r"<(https?://[^>\s]+)>")
TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9-]*(?:\s[^<>`]*)?/?>")
STRONG = re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1")
EMPHASIS = re.compile(r"(?<![\w*])([*_])(?=[^\s*_])([^*_`]+?)(?<=\S)\1(?![\w*])")
ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+\-.!<>|~])")
WORD = re.compile(r"[^\W\d_]{2,}")
# A text that ends in another way introduces a code block, which is left out here, or is only a label.
SENTENCE_END = re.compile(r"[.!?][)\"'\u201d]?$")
CODE_SPAN = re.compile(r"(`+[^`]+`+)")
# Sentences that occur in many READMEs and differ only by a name, so that the search for equal texts does not find them.
BOILERPLATE = (
    "unless you explicitly state otherwise",
    "intentionally submitted for inclusion",
    "licensed under",
    "licenced under",
    "apache license, version",
    "permission is hereby granted",
    "all rights reserved",
    "copyright (c)",
    "automatically generated",
)
BOILERPLATE_TITLES = {"license", "licence", "licensing", "license and copyright", "copyright", "contribution", "contributions"}


def plain(markdown: str, labels: AbstractSet[str] = frozenset()) -> str:
    """The Markdown of one paragraph as a reader sees it. Code keeps its backticks, which mark it as code.

    `labels` are the link references that the document defines; only they make `[two words]` a link.
    """
    text = markdown
    if "[" in text:
        text = LINK.sub(r"\1", IMAGE.sub("", text))
        text = SHORTCUT.sub(
            lambda match: match[1] if CODE_NAME.fullmatch(match[1]) or match[1].lower() in labels else match[0], text
        )
    if "<" in text:
        text = AUTOLINK.sub(r"\1", text)
    parts = CODE_SPAN.split(text) if "`" in text else [text]
    parts[::2] = [plain_words(part) for part in parts[::2]]
    return " ".join("".join(parts).split())


def plain_words(text: str) -> str:
    """The part of `plain` that must not change code. Most texts contain none of the marks, so they are looked for first."""
    if "<" in text:
        text = TAG.sub("", text)
    if "*" in text or "_" in text:
        text = EMPHASIS.sub(r"\2", STRONG.sub(r"\2", text))
    if "\\" in text:
        text = ESCAPE.sub(r"\1", text)
    return html.unescape(text) if "&" in text else text


def is_prose(text: str) -> bool:
    if not TEXT_CHARACTERS_MIN <= len(text) <= TEXT_CHARACTERS_MAX or not SENTENCE_END.search(text):
        return False
    lower = text.lower()
    if "\ufffd" in text or "](" in text or any(phrase in lower for phrase in BOILERPLATE):
        return False
    letters = sum(map(str.isalpha, text)) + text.count(" ")
    return letters >= LETTERS_SHARE_MIN * len(text) and len(WORD.findall(CODE_SPAN.sub(" ", text))) >= WORDS_MIN


def crate_paragraphs(crate: Crate) -> Iterator[Paragraph]:
    for path, text in documents(crate):
        if path.endswith(".rs"):
            blocks: Iterable[Block] = rust_blocks(crate.name, path, text)
        else:
            blocks = [Block(list(enumerate(text.split("\n"), start=1)), crate.name)]
        for block in blocks:
            definitions = (REFERENCE.match(line) for _, line in block.lines if "]:" in line)
            labels = {match[1].lower() for match in definitions if match}
            for line, title, raw in paragraphs(block):
                # Removing markup only shortens a text, and most comments are a few words long.
                if len(raw) < TEXT_CHARACTERS_MIN or title.lower() in BOILERPLATE_TITLES:
                    continue
                prose = plain(raw, labels)
                if is_prose(prose):
                    yield Paragraph(crate.name, crate.version, path, line, title, prose)


# ---------------------------------------------------------------------------------------------------------------------
# The corpus


def full_corpus(repository: Path = REPOSITORY) -> List[Paragraph]:
    """Every paragraph of every pinned crate, in order; each text once."""
    seen: Set[str] = set()
    found = []
    for crate in locked_crates(repository):
        for paragraph in crate_paragraphs(crate):
            if paragraph.text not in seen:
                seen.add(paragraph.text)
                found.append(paragraph)
    return found


def quota(counts: Sequence[int], limit: int) -> int:
    """The largest number of paragraphs per crate for which all crates together stay within the limit."""
    low, high = 0, max(counts, default=0)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(count, middle) for count in counts) <= limit:
            low = middle
        else:
            high = middle - 1
    return low


def rank(paragraph: Paragraph) -> bytes:
    return hashlib.sha256(paragraph.text.encode()).digest()


def select(corpus: Sequence[Paragraph], limit: int) -> List[Paragraph]:
    """At most `limit` paragraphs in the order of the corpus, and the same number from each crate that has enough of them.

    Within a crate the hash of the text decides, not its place, so a new release of one crate changes little else.
    """
    if limit >= len(corpus):
        return list(corpus)
    by_crate: Dict[str, List[Paragraph]] = {}
    for paragraph in corpus:
        by_crate.setdefault(paragraph.crate, []).append(paragraph)
    each = quota([len(group) for group in by_crate.values()], limit)
    ranked = [sorted(group, key=rank) for group in by_crate.values()]
    chosen = {paragraph for group in ranked for paragraph in group[:each]}
    # What the quota leaves over goes to the paragraphs next in rank, of whatever crate.
    rest = sorted((group[each] for group in ranked if len(group) > each), key=rank)
    chosen.update(rest[: limit - len(chosen)])
    return [paragraph for paragraph in corpus if paragraph in chosen]


def load(limit: Optional[int] = PARAGRAPHS_MAX, repository: Path = REPOSITORY) -> List[Paragraph]:
    """The corpus as the demo and the benchmarks use it; `None` for all of it."""
    corpus = full_corpus(repository)
    return corpus if limit is None else select(corpus, limit)


def write(corpus: Iterable[Paragraph], out: Path) -> None:
    """Writes under a temporary name and renames the file, so that readers never see half of it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f"{out.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as sink:
            for paragraph in corpus:
                sink.write(json.dumps(paragraph.as_record(), ensure_ascii=False) + "\n")
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/corpus.py", description="Writes the documentation of the crates in Cargo.lock as JSON lines."
    )
    parser.add_argument("out", metavar="OUT.jsonl", type=Path)
    parser.add_argument(
        "--limit", type=int, default=PARAGRAPHS_MAX, help="the largest number of paragraphs; 0 for all (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        corpus = load(options.limit or None)
        if not corpus:
            raise CorpusError("cargo's cache: it has no crate of Cargo.lock; expected at least one (run `cargo fetch --locked`)")
        write(corpus, options.out)
    except (CorpusError, OSError) as error:
        print(f"corpus: error: {error}", file=sys.stderr)
        return 1
    crates = len({(paragraph.crate, paragraph.version) for paragraph in corpus})
    characters = sum(len(paragraph.text) for paragraph in corpus)
    print(
        f"corpus: {len(corpus):,} paragraphs, {characters:,} characters, from the documentation of {crates} crates: "
        f"{options.out} ({time.monotonic() - started:.1f} s)",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
