"""The rights of Redis users as they are written."""

from stream import acl


def test_without_a_model_s_name_a_consumer_may_serve_any() -> None:
    """And of that model alone where it is named."""
    everything, one = acl.consumer_rights(), acl.consumer_rights("tiny")
    assert len(everything) == len(one)
    common = ("sluice:{*/*}:", "sluice:{all}:models", "sluice:{all}:loads", "sluice:{all}:gpu:*")
    keyed = [right for right in everything if right.read or right.write or right.both]
    assert all(any(keys in right.encode() for keys in common) for right in keyed)
    assert not [right for right in one if "{*/" in right.encode()]
