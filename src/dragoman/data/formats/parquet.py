"""Tables of Parquet, read in pieces; columns that are no plain values, such as audio within the table, are left out."""

from collections.abc import Iterator
from pathlib import Path

from dragoman._lazy import require
from dragoman.data.formats.lines import Row
from dragoman.errors import DataError

ENDING = ".parquet"


def read_parquet(path: Path) -> Iterator[Row]:
    """Yield the rows of a table.

    Raises:
        DataError: If the file is damaged.
        MissingDependencyError: If pyarrow is not installed.
    """
    arrow, parquet = require("pyarrow", "Reading Parquet"), require("pyarrow.parquet", "Reading Parquet")
    number = 0
    try:
        with parquet.ParquetFile(path) as table:
            plain = [one.name for one in table.schema_arrow if not arrow.types.is_binary(one.type)]
            for batch in table.iter_batches(columns=plain):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(values=values, source=f"{path}: row {number}")
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: is damaged Parquet ({error!s:.100}). Copy it again.") from error
