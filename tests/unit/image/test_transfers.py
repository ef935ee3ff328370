from pathlib import Path

from crid.image.transfers import Transfer, Transfers
from crid.model.digest import digest_of
from crid.model.image import Descriptor
from crid.store.content import ContentStore

A, B = Descriptor("", digest_of(b"aaaa"), 4), Descriptor("", digest_of(b"bbbbbbbb"), 8)


def test_what_is_here_counts_whoever_brought_it(tmp_path: Path) -> None:
    content = ContentStore(tmp_path)
    content.load()
    transfers = Transfers(content)
    assert transfers.now() == []
    transfers.expect([B, A, B])
    assert transfers.now() == [Transfer(B.digest, 0, 8), Transfer(A.digest, 0, 4)]
    transfers.read(B.digest, 3)
    transfers.read(B.digest, 3)
    content.add("", b"aaaa")
    assert transfers.now() == [Transfer(B.digest, 6, 8), Transfer(A.digest, 4, 4)]
    transfers.read(B.digest, 100)  # the archive's file is longer: that is refused elsewhere
    assert transfers.now()[0].received == 8
