"""CSV files as a site's columns."""

from pathlib import Path

import numpy as np
import pytest

from fedelta.errors import LearnerError
from fedelta.statistics import CsvStatistics, read_columns, summarize
from fedelta.statistics import _csv as implementation


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding=encoding)
    return path


def test_numbers_are_numbers_and_missing_cells_are_nan(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", 'age,"blood, sugar",sex\n30,5.5,f\n,NA,m\n4e1,nan,f\n N/A ,-1,\n')
    found = read_columns(path)
    assert list(found) == ["age", "blood, sugar", "sex"]
    np.testing.assert_array_equal(found["age"], [30, np.nan, 40, np.nan])
    np.testing.assert_array_equal(found["blood, sugar"], [5.5, np.nan, np.nan, -1])
    assert found["sex"].tolist() == ["f", "m", "f", ""]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_separators_byte_order_marks_and_windows_lines(tmp_path: Path, separator: str, encoding: str) -> None:
    text = "Größe,b\r\n1,2\r\n\r\n3,4\r\n".replace(",", separator)
    found = read_columns(written(tmp_path / "a.csv", text, encoding))
    assert {name: cells.tolist() for name, cells in found.items()} == {"Größe": [1, 3], "b": [2, 4]}


def test_text_late_in_a_long_file_makes_the_whole_column_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(implementation, "_ROWS", 3)
    path = written(tmp_path / "a.csv", "a,b\n" + "".join(f"0{k},{k}\n" for k in range(10)) + "x,10\n")
    found = read_columns(path)
    assert found["a"].tolist() == [*(f"0{k}" for k in range(10)), "x"]
    assert found["b"].tolist() == list(range(11))


def test_a_folder_is_one_table_whatever_the_order_of_columns(tmp_path: Path) -> None:
    written(tmp_path / "2024.csv", "a,b\n1,2\n")
    written(tmp_path / "2025.csv", "b,a\n4,3\n")
    written(tmp_path / "notes.txt", "not this")
    assert {name: cells.tolist() for name, cells in read_columns(tmp_path).items()} == {"a": [1, 3], "b": [2, 4]}


def test_a_header_alone_has_columns_without_rows(tmp_path: Path) -> None:
    found = read_columns(written(tmp_path / "a.csv", "a,b\n"))
    assert {name: len(cells) for name, cells in found.items()} == {"a": 0, "b": 0}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"a\.csv: is empty"),
        ("a,b,a\n", r"a\.csv: the first line names 'a' twice"),
        ("a,,c\n", r"a\.csv: the first line has a cell without a name"),
        ("a,b\n1,2\n3\n", r"a\.csv: line 3 has 1 cells, the first line 2"),
        ('a,b\n1,"2\n', r"a\.csv: cannot be read as CSV: unexpected end of data"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_name(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(LearnerError, match=says):
        read_columns(written(tmp_path / "a.csv", text))


def test_other_encodings_missing_files_and_folders_without_csv_are_said(tmp_path: Path) -> None:
    with pytest.raises(LearnerError, match=r"a\.csv: cannot be read as CSV: 'utf-8' codec"):
        read_columns(written(tmp_path / "a.csv", "Größe\n1\n", "latin-1"))
    with pytest.raises(LearnerError, match="gone: cannot be read as CSV: No such file"):
        read_columns(tmp_path / "gone")
    (tmp_path / "folder").mkdir()
    with pytest.raises(LearnerError, match=r"there is no \*\.csv"):
        read_columns(tmp_path / "folder")


def test_files_of_a_folder_must_have_the_same_columns(tmp_path: Path) -> None:
    written(tmp_path / "1.csv", "a,b\n1,2\n")
    written(tmp_path / "2.csv", "a,c\n1,2\n")
    with pytest.raises(LearnerError, match=r"2\.csv: column 'b' is not in all files"):
        read_columns(tmp_path)


def test_the_learner_says_at_the_site_what_it_leaves_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = CsvStatistics()
    site.data = written(tmp_path / "a.csv", "age,name,sex\n30,Ann,f\n40,Bob,m\n")
    site.setup()
    assert capsys.readouterr().out == "not numeric, left out of statistics: name, sex\n"
    assert list(summarize(site.model())) == ["age"]
