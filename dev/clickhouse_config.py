"""The configuration of a ClickHouse server beyond dev/clickhouse-config.xml: as a replica, and of engines from PyPI."""

from xml.sax.saxutils import escape

from dev.command import Failure, write


def replica_config(options, config):
    """The configuration with what a replica has besides. Every engine has the same server id, nought, so that sessions
    in ZooKeeper need a path for each: two of one id end each other's."""
    if not options.zookeeper:
        raise Failure("--replica needs --zookeeper HOST:PORT")
    host, _, port = options.zookeeper.rpartition(":")
    sessions = f"/clickhouse/sessions/{options.shard}-{options.replica}"
    more = (
        f"<zookeeper><node><host>{host}</host><port>{port}</port></node>"
        f"<sessions_path>{sessions}</sessions_path></zookeeper>"
        f"<macros><shard>{options.shard}</shard><replica>{options.replica}</replica></macros>"
    )
    path = options.dir / "replica.xml"
    write(path, config.read_text().replace("</clickhouse>", f"  {more}\n</clickhouse>"))
    return path


# As a server has it without users of anybody's own; clickhouse-local alone takes `1` for a query.
USERS = """<clickhouse>
  <profiles><default><implicit_select>0</implicit_select></default></profiles>
  <quotas><default/></quotas>
  <users><default>
    <password></password><profile>default</profile><quota>default</quota>
    <networks><ip>::/0</ip></networks><access_management>1</access_management>
  </default></users>
</clickhouse>
"""


def whole_config(options, config, http):
    """The configuration with what the launcher gives to the usual engine as arguments, in a folder of its own."""
    folder = options.dir / "config"
    folder.mkdir(exist_ok=True)
    text = config.read_text()
    more = (
        f"<path>{escape(str(options.dir / 'data'))}/</path>"
        f"<tcp_port>{options.port}</tcp_port><http_port>{http}</http_port><listen_host>127.0.0.1</listen_host>"
        # The server's word for it, and clickhouse-local's.
        "<logger><console>1</console><level>warning</level></logger><log-level>warning</log-level>"
    )
    if "<users_config>" not in text:
        write(folder / "users.xml", USERS)
        more += f"<users_config>{escape(str(folder / 'users.xml'))}</users_config>"
    path = folder / "config.xml"
    write(path, text.replace("</clickhouse>", f"  {more}\n</clickhouse>"))
    return path
