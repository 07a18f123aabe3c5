"""`rnnzoo.data.files`: text and CSV files."""

import gzip

import numpy as np
import pytest

from rnnzoo.data.files import read_csv, read_tagged, read_text

HEAD = "sequence,step,label,x,y\n"


def written(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_reads_sequences_labels_and_names(tmp_path):
    path = written(tmp_path, HEAD + "one,0,up,1,-2.5\none,3,up,1e1,0\n\ntwo,0,down,3,4\n")
    table = read_csv(path, label=True)
    assert table.features == ["x", "y"]
    assert table.names == ["one", "two"]
    assert table.labels == ["up", "down"]
    np.testing.assert_array_equal(table.sequences[0], [[1, -2.5], [10, 0]])
    np.testing.assert_array_equal(table.sequences[1], [[3, 4]])
    assert table.sequences[0].dtype == np.float32


def test_reads_without_labels_and_zipped(tmp_path):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"sequence,step,x\n7,0,1\n7,1,0\n"))
    table = read_csv(path, allowed=(0, 1))
    assert table.labels == []
    np.testing.assert_array_equal(table.sequences[0], [[1], [0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: columns must be sequence, step, label and at least one feature; received ''"),
        ("sequence,step,x\n", "line 1: columns must be"),
        ("sequence,step,label\na,0,u\n", "at least one feature"),
        (HEAD, "at least one row under its header"),
        (
            HEAD + "a,0,u,1,2\na,1,u,1,two\n",
            r"line 3, column 5 \(y\): must be a finite number; "
            "received 'two'",
        ),
        (HEAD + "a,0,u,1,inf\n", r"line 2, column 5 \(y\): must be a finite number"),
        (
            HEAD + "a,0,u,1_0,2\n",
            r"line 2, column 4 \(x\): must be a finite number; received '1_0'",
        ),
        (HEAD + "a,0,u,1,-1e39\n", r"column 5 \(y\): must be within 3.4.*; received '-1e39'"),
        (HEAD + "a,0,u,,2\n", r"line 2, column 4 \(x\): must be a finite number; received ''"),
        (HEAD + "a,0,u,1\n", r"line 2, column 5 \(y\): rows must have 5 columns; received 4"),
        (HEAD + "a,0,u,1,2,3\n", "line 2, column 5 .*: rows must have 5 columns; received 6"),
        (
            HEAD + "a,1,u,1,2\na,1,u,1,2\n",
            r"line 3, column 2 \(step\): must be more than the "
            "step before, 1; received '1'",
        ),
        (HEAD + "a,x,u,1,2\n", r"line 2, column 2 \(step\): must be a finite number"),
        (
            HEAD + "a,0,u,1,2\na,1,v,1,2\n",
            r"line 3, column 3 \(label\): must stay 'u' in a "
            "sequence; received 'v'",
        ),
        (HEAD + "a,0,,1,2\n", r"line 2, column 3 \(label\): must not be empty"),
        (
            HEAD + "a,0,u,1,2\nb,0,u,1,2\na,1,u,1,2\n",
            r"line 4, column 1 \(sequence\): rows of a "
            "sequence must stand together; received 'a'",
        ),
        (HEAD.encode() + b"a,\xff", "line 2, column 3: text must be UTF-8; received byte 0xff"),
        (HEAD + 'a,"0', "line 2, column 3"),
    ],
)
def test_bad_files_name_line_and_column(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_csv(written(tmp_path, text), label=True)


def test_values_that_are_not_allowed_are_named(tmp_path):
    path = written(tmp_path, "sequence,step,x\n7,0,1\n7,1,0.5\n")
    with pytest.raises(
        ValueError,
        match=r"line 3, column 3 \(x\): must be one of 0, 1, the values allowed; .* '0.5'",
    ):
        read_csv(path, allowed=(0, 1))


def test_text_is_read_whole_and_unzipped(tmp_path):
    text = "caf\u00e9\r\n\u2028two\n"
    assert read_text(written(tmp_path, text)) == text
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(text.encode()))
    assert read_text(path) == text


@pytest.mark.parametrize("read", [read_text, read_csv])
def test_a_damaged_archive_is_a_value_error(tmp_path, read):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(HEAD.encode())[:-12])
    with pytest.raises(ValueError, match="must be a gzip file; received"):
        read(path)


@pytest.mark.parametrize("read", [read_text, read_csv])
def test_a_missing_file_is_an_os_error(tmp_path, read):
    with pytest.raises(OSError, match="absent"):
        read(tmp_path / "absent.csv")


def test_tagged_sentences_are_read_from_both_forms(tmp_path):
    token = "{}\t{}\t_\t{}\t_\t_\t0\t_\t_\t_"
    parts = [("1-2", "don't", "_"), ("1", "do", "AUX"), ("2", "n't", "PART"), ("2.1", "it", "PRON")]
    lines = ["# text = don't", *(token.format(*part) for part in parts), "", ""]
    full = tmp_path / "own.conllu"
    full.write_text("\n".join([*lines, "#no space", token.format("1", "#", "SYM")]))
    short = tmp_path / "own.tsv"
    short.write_text("do\tAUX\r\nn't\tPART\r\n\r\n\r\n#\tSYM\r\n")
    expected = ([["do", "n't"], ["#"]], [["AUX", "PART"], ["SYM"]])
    assert read_tagged(full) == read_tagged(short) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("do\tAUX\nnot PART\n", "line 2: must be a word, a tab and its tag"),
        ("do\tAUX\n\tPART\n", "line 2: must be a word"),
        ("1\tdo\t_\tAUX\n", "line 1: must be a word"),
        ("x\tdo\t_\tAUX" + "\t_" * 6, "line 1: must be a word"),
        ("\n\n# only a comment\n", "must hold at least one sentence; received none"),
    ],
)
def test_tagged_sentences_that_are_none_name_the_line(tmp_path, text, said):
    path = tmp_path / "bad.tsv"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_tagged(path)
