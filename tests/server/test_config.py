"""Three sources, one table: what wins, and how errors name the key and where it came from."""

from pathlib import Path

import pytest

from tenure.raft.founding import Listed
from tenure.server.config import Address, Config, ConfigError, load, options


def loaded(flags: dict[str, object] | None = None, environment: dict[str, str] | None = None, *files: Path) -> Config:
    return load(flags or {}, environment or {}, files=files)


def refused(flags: dict[str, object] | None = None, environment: dict[str, str] | None = None, *files: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(flags, environment, *files)
    return str(caught.value)


def test_without_anything_a_single_member_on_loopback() -> None:
    config = loaded()
    assert (str(config.api), str(config.peer), str(config.data_dir)) == (
        "127.0.0.1:8368",
        "127.0.0.1:8369",
        "tenure-data",
    )
    assert config.cluster == ()
    assert config.founders == (Listed("m1", "127.0.0.1:8369"),)


def test_flags_beat_the_environment_and_the_environment_beats_the_file(tmp_path: Path) -> None:
    file = tmp_path / "tenure.toml"
    file.write_text('name = "from-file"\nheartbeat_ms = 30\nelection_floor_ms = 90\nlog_level = "error"\n')
    config = loaded({"name": "from-flag"}, {"TENURE_NAME": "from-env", "TENURE_HEARTBEAT_MS": "40"}, file)
    assert (config.name, config.heartbeat_ms, config.election_floor_ms) == ("from-flag", 40, 90)
    assert config.log_level == "error"
    assert config.file == file


def test_an_unknown_key_is_an_error_that_names_it_and_its_source(tmp_path: Path) -> None:
    file = tmp_path / "tenure.toml"
    file.write_text("heartbeet_ms = 30\n")
    meant = "there is no such option; did you mean heartbeat_ms?"
    assert refused(None, None, file) == f"heartbeet_ms ({file}): {meant}"
    assert refused({"heartbeet_ms": 1}) == f"heartbeet_ms (command line): {meant}"
    said = refused(None, {"TENURE_DATADIR": "x"})
    assert said == "TENURE_DATADIR (environment): there is no such option; did you mean TENURE_DATA_DIR?"
    assert "`tenure serve --help` lists them" in refused(None, {"TENURE_ZZZ": "1"})


def test_variables_of_other_commands_may_stand_in_the_environment() -> None:
    assert loaded(None, {"TENURE_ELECTION": "orders", "TENURE_ENDPOINTS": "http://x", "TENURE_TERM": "5"}).name == "m1"


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("heartbeat_ms", "fast", "must be an integer"),
        ("heartbeat_ms", "1", "must lie between 5 and 1000"),
        ("heartbeat_ms", True, "must be an integer"),
        ("heartbeat_ms", 2.5, "must be an integer"),
        ("insecure", "perhaps", "must be true or false"),
        ("api", "localhost", "must be HOST:PORT"),
        ("api", "localhost:99999", "must be HOST:PORT"),
        *((key, "127.0.0.1:0", "port from 1 to 65535") for key in ("api", "peer", "advertise_api", "advertise_peer")),
        ("peer", "127.0.0.1:٣٣٣", "port from 1 to 65535"),
        ("peer", "127.0.0.1:²", "port from 1 to 65535"),
        ("peer", "127.0.0.1:" + "1" * 5_000, "port from 1 to 65535"),
        ("cluster", "m1=127.0.0.1:0,m2=127.0.0.1:2", "the address of m1 must be HOST:PORT with a port from 1"),
        ("cluster", "m1=127.0.0.1:1,m2=127.0.0.1:٢", "the address of m2 must be HOST:PORT with a port from 1"),
        ("join", "http://127.0.0.1:0", "a port from 1 to 65535"),
        ("rejoin", "127.0.0.1:8368,127.0.0.1:0", "a port from 1 to 65535"),
        ("join", "http://127.0.0.1:٣", "a port from 1 to 65535"),
        *((key, "http://h:80", "with a host") for key in ("api", "peer", "advertise_api", "advertise_peer")),
        ("peer", "[]:80", "must be HOST:PORT with a host"),
        ("cluster", "m1=h\u202e:1,m2=h:2", "the address of m1 must be HOST:PORT with a host"),
        ("heartbeat_ms", "٢٥", "must be an integer"),
        ("heartbeat_ms", "9" * 5_000, "must lie between 5 and 1000, got a number of 5000 characters"),
        ("heartbeat_ms", "-" + "9" * 5_000, "must lie between 5 and 1000, got a number of 5001 characters"),
        ("heartbeat_ms", 10**30, "must lie between 5 and 1000"),
        ("log_level", "loud", "must be one of debug, info, warning, error"),
        ("name", "no spaces", "must match"),
        ("cluster", "m1", "must be NAME=HOST:PORT"),
        ("cluster", "m1=a:1,m1=b:2", "twice"),
        ("cluster", "m2=a:1,m3=b:2", "does not list this member"),
        ("cluster", ",".join(f"m{n}=h:{n}" for n in range(1, 9)), "must list 1 to 7 members"),
        ("election_floor_ms", "40", "must be at least twice heartbeat_ms"),
        ("data_dir", "", "must be a string, not empty"),
    ],
)
def test_a_wrong_value_names_the_key_the_source_and_the_reason(key: str, value: object, reason: str) -> None:
    text = refused({key: value})
    assert text.startswith(f"{key} (--{key.replace('_', '-')}): ")
    assert reason in text


def test_beyond_loopback_a_secret_or_an_explicit_insecure_is_needed(tmp_path: Path) -> None:
    assert "--cluster-secret-file" in refused({"api": "0.0.0.0:8368"})
    assert "--insecure" in refused({"peer": "10.0.0.1:8369"})
    assert loaded({"api": "0.0.0.0:8368", "insecure": True}).api == Address("0.0.0.0", 8368)
    secret = tmp_path / "secret"
    secret.write_text("a long enough secret\n")
    config = loaded({"api": "0.0.0.0:8368", "cluster_secret_file": str(secret)})
    assert config.secret() == b"a long enough secret"


def test_a_short_or_missing_secret_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    assert "can't be read" in refused({"cluster_secret_file": str(secret)})
    secret.write_text("short\n")
    assert "at least 16 bytes" in refused({"cluster_secret_file": str(secret)})
    assert "needs cluster_secret_file" in refused({"require_secret": True})


def test_the_cluster_may_be_a_table_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "tenure.toml"
    file.write_text('name = "b"\n[cluster]\na = "127.0.0.1:1"\nb = "127.0.0.1:2"\n')
    assert loaded(None, None, file).cluster == (Listed("a", "127.0.0.1:1"), Listed("b", "127.0.0.1:2"))


@pytest.mark.parametrize("value", ["9" * 5_000, "0x" + "f" * 5_000, "[[0x" + "f" * 5_000 + "]]"])
@pytest.mark.parametrize("key", ["heartbeat_ms", "name", "join"])
def test_a_number_in_the_file_that_nobody_could_mean_is_refused(tmp_path: Path, key: str, value: str) -> None:
    """As text it could be said neither in the error nor anywhere."""
    file = tmp_path / "tenure.toml"
    file.write_text(f"{key} = {value}\n")
    assert refused(None, None, file) == f"config ({file}): holds an integer that is too long"


def test_a_file_that_is_no_text_is_no_toml(tmp_path: Path) -> None:
    file = tmp_path / "tenure.toml"
    file.write_bytes(b'name = "\xff"\n')
    assert refused(None, None, file).startswith(f"config ({file}): is not TOML: ")


def test_addresses_of_version_six_keep_their_brackets() -> None:
    config = loaded({"api": "[::1]:8368"})
    assert config.api == Address("::1", 8368)
    assert str(config.api) == "[::1]:8368"
    assert config.api.loopback


def test_what_is_advertised_follows_what_is_listened_on() -> None:
    config = loaded({"advertise_api": "api.example:80"})
    assert (str(config.advertise_api), str(config.advertise_peer)) == ("api.example:80", "127.0.0.1:8369")


def test_every_option_has_a_flag_a_variable_and_help() -> None:
    for option in options:
        assert option.flag == "--" + option.name.replace("_", "-")
        assert option.variable == "TENURE_" + option.name.upper()
        assert len(option.help) > 10


def test_a_secret_that_others_can_read_and_an_address_that_is_none_are_doubted(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a-secret-of-some-length")
    for mode, doubted in ((0o600, False), (0o640, False), (0o644, True), (0o660, True)):
        secret.chmod(mode)
        doubts = loaded({"cluster_secret_file": str(secret)}).doubts()
        assert any("chmod 600" in doubt for doubt in doubts) == doubted, oct(mode)
    doubts = loaded({"api": "0.0.0.0:8368", "insecure": True}).doubts()
    assert len(doubts) == 1
    assert "--advertise-api" in doubts[0]
    assert loaded().doubts() == ()


def test_others_reach_a_member_where_the_cluster_lists_it() -> None:
    flags: dict[str, object] = {
        "peer": "0.0.0.0:9001",
        "insecure": True,
        "cluster": "m1=10.0.0.1:9001,m2=10.0.0.2:9001",
    }
    assert loaded(flags).advertise_peer == Address("10.0.0.1", 9001)
    assert loaded({**flags, "advertise_peer": "10.0.0.9:9001"}).advertise_peer == Address("10.0.0.9", 9001)


def test_a_witness_is_listed_with_its_role_as_flag_list_and_table(tmp_path: Path) -> None:
    listed = (Listed("m1", "h:1"), Listed("m2", "h:2"), Listed("m3", "h:3", "witness"))
    assert loaded({"cluster": "m1=h:1,m2=h:2,m3=h:3/witness"}).cluster == listed
    assert loaded({"cluster": "m1=h:1/voter,m2=h:2,m3=h:3/witness"}).cluster == listed
    file = tmp_path / "tenure.toml"
    file.write_text('[cluster]\nm1 = "h:1"\nm2 = "h:2"\nm3 = "h:3/witness"\n')
    assert loaded(None, None, file).cluster == listed
    file.write_text('cluster = ["m1=h:1", "m2=h:2", "m3=h:3/witness"]\n')
    assert loaded(None, None, file).cluster == listed
    assert ",".join(str(one) for one in listed) == "m1=h:1,m2=h:2,m3=h:3/witness"


@pytest.mark.parametrize(
    ("cluster", "reason"),
    [
        ("m1=h:1/king", "may be a voter or a /witness"),
        ("m1=h:1/witness", "the last voter that holds the state"),
        ("m1=h:1,m2=h:2/witness", "1 of 2 voters would be witnesses; fewer than half may be"),
        ("m1=h:1,m2=h:2/witness,m3=h:3/witness", "2 of 3 voters would be witnesses"),
        ("m1=h:1,m2=h:2,m3=h:3/witness,m4=h:4/witness", "2 of 4 voters would be witnesses"),
    ],
)
def test_a_cluster_whose_witnesses_could_strand_data_is_refused_at_the_start(cluster: str, reason: str) -> None:
    text = refused({"cluster": cluster})
    assert text.startswith("cluster (--cluster): ")
    assert reason in text


def test_who_joins_lists_nobody_and_needs_a_name_and_an_address_of_its_own(tmp_path: Path) -> None:
    joins = loaded({"name": "m4", "join": "http://10.0.0.1:8368,10.0.0.2"})
    assert joins.join == ("http://10.0.0.1:8368", "http://10.0.0.2:8368")
    assert joins.founders == ()
    assert loaded(None, {"TENURE_JOIN": "h", "TENURE_NAME": "m4"}).join == ("http://h:8368",)
    file = tmp_path / "tenure.toml"
    file.write_text('name = "m4"\njoin = ["http://a:1", "b:2"]\n')
    assert loaded(None, None, file).join == ("http://a:1", "http://b:2")
    assert "needs a name of its own" in refused({"join": "h"})
    assert "must look like http://host:port" in refused({"name": "m4", "join": "ftp://h"})
    both = refused({"name": "m4", "join": "h", "cluster": "m4=h:1"})
    assert both.startswith("join (--join): excludes --cluster (--cluster)")
    wild = {"name": "m4", "join": "h", "peer": "0.0.0.0:9", "insecure": True}
    assert "give --advertise-peer" in refused(wild)
    assert loaded({**wild, "advertise_peer": "10.0.0.4:9"}).founders == ()


def test_a_standby_joins_and_who_rejoins_is_started_as_always() -> None:
    joins: dict[str, object] = {"name": "m4", "join": "http://127.0.0.1:8001", "standby": "voter"}
    assert loaded(joins).standby == "voter"
    assert "Give --join" in refused({"name": "m4", "standby": "voter"})
    assert "must be one of no, voter, witness" in refused({**joins, "standby": "yes"})
    listed = "m1=127.0.0.1:9001,m2=127.0.0.1:9002"
    config = loaded({"name": "m2", "cluster": listed, "rejoin": "http://127.0.0.1:8001,http://127.0.0.1:8002"})
    assert (config.founders, config.join) == (config.cluster, ())
    again = config.returning()
    assert (again.cluster, again.founders, again.join) == ((), (), config.rejoin)
    assert str(again.advertise_peer) == "127.0.0.1:9002", "where its former self was"
