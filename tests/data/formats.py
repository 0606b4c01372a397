#!/usr/bin/env python3
"""Writes the same seven records in every file format that embedmill reads, by other people's writers.

In:    Python with pyarrow.
Out:   formats/ beside this file, a few KB each; records.jsonl is the plainest form of what the others hold.
Keeps: nothing. The same versions of the packages give the same bytes.
Fails: with the command that installs pyarrow.

The text is never null, every other column is somewhere. CSV and TSV have no lists, so they lack `tags`, and cannot tell
a null from an empty string; the text file has the texts alone, a line each.
"""

from __future__ import annotations

import bz2
import csv
import datetime
import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any, Dict, List

FORMATS = Path(__file__).resolve().parent / "formats"
UTC = datetime.timezone.utc


def moment(day: int, microsecond: int = 0) -> datetime.datetime:
    return datetime.datetime(2026, 3, day, 12, 30, 59, microsecond, UTC)


COLUMNS = ("id", "title", "text", "lang", "views", "score", "updated", "tags")
RECORDS = [
    ("a-1", "Tides", "The sea rises twice a day, and falls twice.", "en", 120, 0.75, moment(1), ["sea", "moon"]),
    (
        "a-2",
        None,
        "Ein Zug f\u00e4hrt durch das Tal; \u00dcber ihm kreist ein M\u00e4usebussard.",
        "de",
        7,
        -1.5,
        moment(2, 123_456),
        [],
    ),
    (
        "a-3",
        "Quotes, commas",
        'He said "now", then left,\nand a second line followed.\ttabbed',
        "en",
        None,
        0.1,
        None,
        ["a,b", 'c"d'],
    ),
    (
        "b-1",
        "\u6771\u4eac",
        "\u6771\u4eac\u306e\u671d\u306f\u9759\u304b\u3060\u3002",
        "ja",
        9_007_199_254_740_993,
        None,
        moment(4),
        None,
    ),
    (
        "b-2",
        "Fam\u00edlia \U0001f468\u200d\U0001f469\u200d\U0001f467",
        "Emoji with joiners: \U0001f468\u200d\U0001f469\u200d\U0001f467 and a flag \U0001f1e7\U0001f1f7.",
        None,
        0,
        1e-9,
        moment(5),
        ["\u00e9", None],
    ),
    ("b-3", "", "  spaces around, and an empty title  ", "en", -5, 1e300, moment(6), [""]),
    (
        "c-1",
        "Right to left",
        "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd, then \u0645\u0631\u062d\u0628\u0627.",
        "he",
        42,
        3.0,
        moment(7, 1),
        ["rtl"],
    ),
]


def as_json(record: tuple) -> Dict[str, Any]:
    fields = dict(zip(COLUMNS, record))
    if fields["updated"] is not None:
        fields["updated"] = fields["updated"].isoformat().replace("+00:00", "Z")
    return fields


def json_lines() -> List[bytes]:
    return [(json.dumps(as_json(record), ensure_ascii=False) + "\n").encode() for record in RECORDS]


def gzipped(content: bytes) -> bytes:
    # The time of day would make every run's bytes new.
    return gzip.compress(content, mtime=0)


def zstd(content: bytes) -> bytes:
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def delimited(delimiter: str) -> bytes:
    """CRLF between rows as RFC 4180 has it; line breaks and delimiters inside a field are quoted."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow(COLUMNS[:-1])
    for record in RECORDS:
        fields = as_json(record)
        writer.writerow("" if fields[name] is None else fields[name] for name in COLUMNS[:-1])
    return out.getvalue().encode()


def table() -> Any:
    import pyarrow as pa

    schema = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            ("title", pa.string()),
            pa.field("text", pa.string(), nullable=False),
            ("lang", pa.string()),
            ("views", pa.int64()),
            ("score", pa.float64()),
            ("updated", pa.timestamp("us", tz="UTC")),
            ("tags", pa.list_(pa.string())),
        ]
    )
    return pa.table([list(column) for column in zip(*RECORDS)], schema=schema)


def other_types(plain: Any) -> Any:
    """The same values in the types that other writers choose: large strings, string views, dictionaries."""
    import pyarrow as pa

    types = {"title": pa.large_string(), "text": pa.string_view(), "lang": pa.dictionary(pa.int32(), pa.string())}
    for name, kind in types.items():
        index = plain.schema.get_field_index(name)
        column = plain.column(name)
        column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)
        plain = plain.set_column(index, pa.field(name, kind, nullable=plain.field(name).nullable), column)
    return plain


def write_text_formats() -> None:
    lines = json_lines()
    content = b"".join(lines)
    halves = (b"".join(lines[:4]), b"".join(lines[4:]))
    files = {
        "records.jsonl": content,
        "records.jsonl.gz": gzipped(content),
        "records.jsonl.zst": zstd(content),
        "records.jsonl.bz2": bz2.compress(content),
        # The content says what a file is, whatever its name.
        "gzip-inside.jsonl": gzipped(content),
        # What `cat a.gz b.gz` and parallel compressors make: several members, one after the other.
        "members.jsonl.gz": b"".join(map(gzipped, halves)),
        "members.jsonl.zst": b"".join(map(zstd, halves)),
        "members.jsonl.bz2": b"".join(map(bz2.compress, halves)),
        # Line ends of Windows, an empty line, and none after the last record.
        "crlf.jsonl": b"\r\n".join(line.rstrip(b"\n") for line in [*lines[:3], b"", *lines[3:]]),
        "records.csv": delimited(","),
        "records.tsv": delimited("\t"),
        "records.txt": "".join(" ".join(record[2].split()) + "\n" for record in RECORDS).encode(),
    }
    for name, data in files.items():
        (FORMATS / name).write_bytes(data)


def write_arrow_formats() -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    plain, other = table(), other_types(table())
    parquet.write_table(plain, FORMATS / "records.parquet", compression="snappy")
    parquet.write_table(
        plain, FORMATS / "groups.parquet", compression="zstd", use_dictionary=True, row_group_size=3, data_page_version="2.0"
    )
    with pa.ipc.new_file(FORMATS / "records.arrow", plain.schema) as writer:
        writer.write_table(plain, max_chunksize=3)
    with pa.ipc.new_stream(FORMATS / "records.arrows", plain.schema) as writer:
        writer.write_table(plain, max_chunksize=4)
    for codec in ("lz4", "zstd"):
        with pa.ipc.new_file(
            FORMATS / f"{codec}.arrow", plain.schema, options=pa.ipc.IpcWriteOptions(compression=codec)
        ) as writer:
            writer.write_table(plain)
    with pa.ipc.new_file(FORMATS / "types.arrow", other.schema) as writer:
        writer.write_table(other)


def main() -> int:
    try:
        import pyarrow
    except ImportError:
        print(f"formats: error: {sys.executable} lacks pyarrow: {sys.executable} -m pip install pyarrow", file=sys.stderr)
        return 1
    FORMATS.mkdir(exist_ok=True)
    write_text_formats()
    write_arrow_formats()
    sizes = {path.name: path.stat().st_size for path in sorted(FORMATS.iterdir())}
    print(f"formats: {len(sizes)} files, {sum(sizes.values()):,} bytes, pyarrow {pyarrow.__version__}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
