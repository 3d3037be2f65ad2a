"""Which proxy a connection goes through: by setting, variables and target."""

import pytest

from fedelta.errors import ConfigError
from fedelta.wire.hosts import is_loopback, join, resolves_to_loopback, split
from fedelta.wire.proxy import Proxy, ProxySetting, choose, parse, redacted

PROXY = {"https_proxy": "http://proxy:3128"}
ENV = ProxySetting("environment")
TARGET = "fed.hospital.org:8470"


@pytest.mark.parametrize(
    ("environment", "address", "source"),
    [
        ({"https_proxy": "http://one:1", "HTTPS_PROXY": "http://two:2"}, "one:1", "https_proxy"),
        ({"HTTPS_PROXY": "http://two:2", "all_proxy": "http://three:3"}, "two:2", "HTTPS_PROXY"),
        ({"https_proxy": "", "ALL_PROXY": "http://four:4"}, "four:4", "ALL_PROXY"),
        ({"https_proxy": "one:1"}, "one:1", "https_proxy"),
        ({"https_proxy": "http://one"}, "one:80", "https_proxy"),
        ({"https_proxy": "http://[fd00::1]:3128/"}, "[fd00::1]:3128", "https_proxy"),
    ],
)
def test_the_environment_names_a_proxy(environment: dict[str, str], address: str, source: str) -> None:
    assert choose(TARGET, ENV, environment) == Proxy(address=address, source=source)


@pytest.mark.parametrize("environment", [{}, {"http_proxy": "http://proxy:3128"}, {"https_proxy": ""}])
def test_the_environment_names_none(environment: dict[str, str]) -> None:
    assert choose(TARGET, ENV, environment) is None


@pytest.mark.parametrize(
    ("target", "excepted"),
    [
        (TARGET, "fed.hospital.org"),
        (TARGET, "hospital.org"),
        (TARGET, ".hospital.org"),
        (TARGET, "*.hospital.org"),
        (TARGET, "FED.Hospital.Org."),
        (TARGET, "example.com, hospital.org"),
        (TARGET, "example.com hospital.org"),
        (TARGET, "hospital.org:8470"),
        (TARGET, "*"),
        ("10.1.2.3:8470", "10.1.2.3"),
        ("10.1.2.3:8470", "10.1.0.0/16"),
        ("10.1.2.3:8470", "10.1.2.3:8470"),
        ("[fd00::7]:8470", "fd00::7"),
        ("[fd00::7]:8470", "[fd00:0::7]:8470"),
        ("[fd00::7]:8470", "fd00::/8"),
    ],
)
def test_no_proxy_excepts(target: str, excepted: str) -> None:
    assert choose(target, ENV, {**PROXY, "NO_PROXY": excepted}) is None
    assert choose(target, ENV, {**PROXY, "no_proxy": excepted, "NO_PROXY": "elsewhere"}) is None
    # A URL is obeyed as it is.
    assert choose(target, ProxySetting("http://proxy:1", "--proxy"), {"no_proxy": excepted}) == Proxy(
        address="proxy:1", source="--proxy"
    )


@pytest.mark.parametrize(
    ("target", "other"),
    [
        (TARGET, "xhospital.org"),
        (TARGET, "spital.org"),
        (TARGET, "hospital.org:443"),
        (TARGET, "10.0.0.0/8"),
        (TARGET, "., ,"),
        ("10.1.2.3:8470", "10.1.2.30"),
        ("10.1.2.3:8470", "2.3"),
        ("10.1.2.3:8470", "10.2.0.0/16, fd00::/8, no/network"),
        ("[fd00::7]:8470", "fd00::70, [fd00::7]:80"),
    ],
)
def test_no_proxy_does_not_except(target: str, other: str) -> None:
    assert choose(target, ENV, {**PROXY, "no_proxy": other}) == Proxy(address="proxy:3128", source="https_proxy")


@pytest.mark.parametrize("target", ["localhost:8470", "127.3.2.1:8470", "[::1]:8470", "Coordinator.Localhost.:8470"])
def test_this_machine_is_reached_directly_unless_a_url_says_otherwise(target: str) -> None:
    assert choose(target, ENV, PROXY) is None
    assert choose(target, ProxySetting("http://proxy:1", "--proxy"), {}) == Proxy(address="proxy:1", source="--proxy")


def test_none_is_none() -> None:
    assert choose(TARGET, ProxySetting("none"), PROXY) is None


def test_credentials_travel_and_are_not_shown() -> None:
    found = parse("http://us%40er:se%3Acret@proxy:3128", "HTTPS_PROXY")
    assert found.credentials == "dXNAZXI6c2U6Y3JldA=="  # us@er:se:cret
    assert found.address == "proxy:3128"
    assert "dXN" not in repr(found)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://user:secret@proxy:3128", "http://***@proxy:3128"),
        ("user:sec@ret@proxy:3128", "***@proxy:3128"),
        ("http://proxy:3128", "http://proxy:3128"),
        ("environment", "environment"),
    ],
)
def test_a_setting_is_shown_without_credentials(url: str, shown: str) -> None:
    assert redacted(url) == str(ProxySetting(url)) == repr(ProxySetting(url)) == shown


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("https://user:secret@proxy:3128", "by https://, but only http:// proxies"),
        ("socks5://user:secret@proxy:1080", "by socks5://, but only http:// proxies"),
        ("http://user:secret@", "HTTPS_PROXY is not the URL of a proxy"),
        ("http://user:secret@proxy:port", "with %XX for special characters"),
        ("http://user:sec/secret@proxy:1", "with %XX for special characters"),
        ("http://user:sec#secret@proxy:1", "with %XX for special characters"),
        ("http://user:secret@proxy:3128/path", "is not the URL of a proxy"),
        ("http://user:secret@pro xy:3128", "is not the URL of a proxy"),
        ("http://user:secret@proxy:0", "is not the URL of a proxy"),
    ],
)
def test_what_is_no_proxy_that_works_is_refused_without_repeating_it(url: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        choose(TARGET, ENV, {"HTTPS_PROXY": url})
    with pytest.raises(ValueError, match="this ") as refused:
        ProxySetting.parse(url)
    assert "secret" not in f"{caught.value}{refused.value}"
    # Where it is not needed, it does no harm.
    assert choose("localhost:8470", ENV, {"HTTPS_PROXY": url}) is None


@pytest.mark.parametrize(
    ("host", "port", "address"), [("::1", 1, "[::1]:1"), ("[::1]", 1, "[::1]:1"), ("a.b", 80, "a.b:80")]
)
def test_addresses_are_put_together_and_taken_apart(host: str, port: int, address: str) -> None:
    assert join(host, port) == address
    assert split(address) == (host.strip("[]"), port)


def test_a_host_is_local_where_all_its_addresses_are(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"here": ["127.0.1.1", "::1"], "both": ["127.0.0.1", "10.0.0.5"], "there": ["10.0.0.5"]}

    def getaddrinfo(host: str, _port: object) -> list[tuple[object, ...]]:
        if host not in known:
            raise OSError("no such name")
        return [(None, None, None, "", (address, 0)) for address in known[host]]

    assert resolves_to_loopback("127.0.0.2")
    assert resolves_to_loopback("::1") == resolves_to_loopback("[::1]")
    assert not any(map(resolves_to_loopback, ("0.0.0.0", "10.0.0.5")))
    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
    assert [resolves_to_loopback(host) for host in ("here", "both", "there", "nowhere")] == [True, False, False, False]
    assert [is_loopback(host) for host in ("here", "localhost", "127.9.9.9", "::1", "::")] == [
        False,
        *[True] * 3,
        False,
    ]
