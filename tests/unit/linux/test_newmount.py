from crid.linux.newmount import split_layers


def test_layers_are_split_at_bare_colons() -> None:
    assert split_layers("/a:/b") == ["/a", "/b"]
    assert split_layers(r"/with\:colon:/with\,comma:/with\\backslash") == ["/with:colon", "/with,comma", "/with\\backslash"]
    assert split_layers("/only") == ["/only"]
