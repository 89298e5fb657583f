"""The files beside this one: every type that Koan reads, in every compression. Run: python make.py (pyarrow 26)."""
import datetime
import decimal
import uuid

import pyarrow as pa
import pyarrow.parquet as pq

S, I = pa.string(), pa.int64()
fields = [
    ("text", pa.large_string()), ("kind", pa.dictionary(pa.int32(), S)), ("long", I), ("unsigned", pa.uint64()),
    ("small", pa.int8()), ("flag", pa.bool_()), ("single", pa.float32()), ("double", pa.float64()),
    ("price", pa.decimal128(20, 3)), ("day", pa.date32()), ("clock", pa.time64("us")), ("micros", pa.timestamp("us")),
    ("nanos", pa.timestamp("ns", tz="UTC")), ("raw", pa.binary()), ("name", pa.binary()), ("tags", pa.list_(S)),
    ("deep", pa.list_(pa.list_(I))), ("map", pa.map_(S, I)), ("by_number", pa.map_(I, S)),
    ("messages", pa.list_(pa.struct([("content", S), ("role", S)]))),
    ("nested", pa.struct([("a", pa.struct([("b", pa.list_(pa.bool_()))])), ("n", I)])), ("__index_level_0__", I),
]
schema = pa.schema(fields)
full = {
    "text": "½ \"数\"\n", "kind": "x", "long": -9007199254740993, "unsigned": 18446744073709551615, "small": -3,
    "flag": True, "single": 0.1, "double": float("inf"), "price": decimal.Decimal("-12345678901234567.125"),
    "day": datetime.date(2024, 2, 29), "clock": datetime.time(13, 5, 0, 250000),
    "micros": datetime.datetime(2024, 11, 2, 0, 0), "nanos": 1730505600123456789, "raw": b"\x00\xff", "name": b"plain",
    "tags": ["a", None, ""], "deep": [[1], [], None], "map": [("k", 1), ("l", None)], "by_number": [(7, "seven")],
    "messages": [{"content": "Hi?", "role": "user"}, {"content": "Hello!", "role": "assistant"}],
    "nested": {"a": {"b": [True, None]}, "n": 5}, "__index_level_0__": 0,
}
nulls = {name: None for name, _ in fields}
empty = {**nulls, "text": "", "tags": [], "deep": [], "map": [], "messages": [], "nested": {"a": None, "n": None}}
table = pa.Table.from_pylist([full, nulls, empty, full], schema=schema)
for name, options in {
    "none": {"compression": "none"},
    "snappy": {"compression": "snappy"},
    "gzip": {"compression": "gzip", "data_page_version": "2.0"},
    "zstd": {"compression": "zstd", "use_dictionary": False},
    "zstd-v2": {"compression": "zstd", "data_page_version": "2.0", "version": "2.6"},
    "lz4": {"compression": "lz4"},
}.items():
    pq.write_table(table, f"{name}.parquet", row_group_size=3, write_statistics=name == "snappy", **options)
