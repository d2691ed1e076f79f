"""Files: written whole or not at all, and read without trust; the one place for both.

    write_bytes, write_text, write_json, write_lines, write_npz    replace a file
    append_line                                                    add a line of JSON
    check_writable, check_folder                                   before work starts
    lock                                                           one process at a time
    read_bytes, read_text, read_json, read_lines                   raise ``Unreadable``
    read_npz, read_npy, read_headed                                the same, of arrays
    parse_json, parse_object, parse_npz                            the same, from memory
    decode                                                         declared types
    digest                                                         SHA-256 of arrays

Whoever writes makes a temporary file beside the target, flushes it to disk, moves it
into place and flushes the folder: after a kill or a power cut there is the earlier file
or the new one. What a killed process has left is removed by the next write to its
folder.

Whoever reads unpickles nothing, and allocates nothing that a file only announces: no
more than ``most`` of its size, and no JSON nested deeper than ``DEEPEST``. A file that
is missing, is no file or whose content is wrong is one error, ``Unreadable``, which
names the file and the place; pipes are not waited for.
"""

from refqnn.files.archives import check_like as check_like
from refqnn.files.archives import digest as digest
from refqnn.files.archives import header_entry as header_entry
from refqnn.files.archives import parse_npz as parse_npz
from refqnn.files.archives import read_headed as read_headed
from refqnn.files.archives import read_npy as read_npy
from refqnn.files.archives import read_npz as read_npz
from refqnn.files.archives import write_npz as write_npz
from refqnn.files.locking import lock as lock
from refqnn.files.reading import DEEPEST as DEEPEST
from refqnn.files.reading import Absent as Absent
from refqnn.files.reading import StrPath as StrPath
from refqnn.files.reading import Unreadable as Unreadable
from refqnn.files.reading import decode as decode
from refqnn.files.reading import most as most
from refqnn.files.reading import open_file as open_file
from refqnn.files.reading import parse_json as parse_json
from refqnn.files.reading import parse_object as parse_object
from refqnn.files.reading import printable as printable
from refqnn.files.reading import read_bytes as read_bytes
from refqnn.files.reading import read_json as read_json
from refqnn.files.reading import read_lines as read_lines
from refqnn.files.reading import read_text as read_text
from refqnn.files.writing import append_line as append_line
from refqnn.files.writing import check_folder as check_folder
from refqnn.files.writing import check_writable as check_writable
from refqnn.files.writing import write_bytes as write_bytes
from refqnn.files.writing import write_json as write_json
from refqnn.files.writing import write_lines as write_lines
from refqnn.files.writing import write_text as write_text
from refqnn.files.writing import write_whole as write_whole
