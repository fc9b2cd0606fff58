"""Claims: who may put a key into L1."""

from __future__ import annotations

from querycache.cache.claims import Claims


def test_a_lone_claim_holds() -> None:
    claims = Claims()
    token = claims.claim("k")
    assert claims.redeem("k", token)
    assert len(claims) == 0


def test_two_claims_void_each_other_whoever_ends_first() -> None:
    for first_ends in (True, False):
        claims = Claims()
        tokens = [claims.claim("k"), claims.claim("k")]
        order = tokens if first_ends else tokens[::-1]
        assert [claims.redeem("k", token) for token in order] == [False, False]
        assert len(claims) == 0


def test_a_third_claim_while_one_of_two_is_under_way_is_void_too() -> None:
    claims = Claims()
    first, second = claims.claim("k"), claims.claim("k")
    assert not claims.redeem("k", first)
    third = claims.claim("k")
    assert not claims.redeem("k", second)
    assert not claims.redeem("k", third)
    assert claims.redeem("k", claims.claim("k"))


def test_a_back_fill_gives_way() -> None:
    claims = Claims()
    token = claims.claim("k")
    assert claims.try_claim("k") is None
    assert not claims.redeem("k", None)
    assert claims.redeem("k", token)
    back_fill = claims.try_claim("k")
    writer = claims.claim("k")
    assert not claims.redeem("k", back_fill)
    assert not claims.redeem("k", writer)


def test_news_void_a_claim() -> None:
    claims = Claims()
    one, other = claims.claim("a"), claims.claim("b")
    claims.void("a")
    claims.void("absent")
    assert not claims.redeem("a", one)
    claims.void_all()
    assert not claims.redeem("b", other)
    assert len(claims) == 0
