"""S3 servers of Debian's packages: Ceph's radosgw and OpenStack Swift; `make test-s3` has them.

Both are whole, at their smallest: Ceph with one monitor and one OSD that keeps its objects in
memory, Swift with one device and one replica.
"""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.support.s3_servers import (
    OWNER,
    REGION,
    Key,
    S3Server,
    free_ports,
    makes_bucket,
    process,
    wait_until,
    with_policies,
)
from tests.support.worker_process import LOOPBACK_ONLY

# No cephx among processes of one machine, and so no encryption between them. Without the network's
# mode "crc", radosgw asks for cephx all the same.
CEPH = """[global]
fsid = {fsid}
mon host = {monitor}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
ms cluster mode = crc
ms service mode = crc
ms client mode = crc
ms mon cluster mode = crc
ms mon service mode = crc
ms mon client mode = crc
mon allow pool size one = true
mon data avail warn = 0
mon data avail crit = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 1073741824
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}
run dir = {folder}
keyring = {folder}/keyring
log file = {folder}/$name.log
mon cluster log file = {folder}/cluster.log
pid file = {folder}/$name.pid
admin socket = {folder}/$name.$pid.asok
"""


@contextmanager
def radosgw(folder: Path) -> Iterator[S3Server]:
    """Run Ceph's gateway with a cluster behind it; users' policies by its IAM interface."""
    v2, v1, port = free_ports(3)
    monitor, fsid, conf = f"[v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]", uuid.uuid4(), folder / "c.conf"
    conf.write_text(CEPH.format(fsid=fsid, monitor=monitor, folder=folder))
    for name in ("mon", "osd"):
        (folder / name).mkdir()
    (folder / "keyring").touch()

    def ceph(program: str, *words: str) -> str:
        done = subprocess.run(
            [program, "-c", str(conf), *words],
            text=True,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    monmap, device = str(folder / "monmap"), str(uuid.uuid4())
    ceph("monmaptool", "--create", "--fsid", str(fsid), "--addv", "a", monitor, monmap)
    ceph("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
    with ExitStack() as stack:

        def start(program: str, *words: str) -> subprocess.Popen[bytes]:
            command = [program, "-c", conf, "-f", *words]
            return stack.enter_context(process(command, folder, program))

        running = [start("ceph-mon", "-i", "a")]
        ceph("ceph", "osd", "new", device)
        ceph("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", device)
        running.append(start("ceph-osd", "-i", "0"))
        wait_until(lambda: "1 up" in ceph("ceph", "osd", "stat"), running, folder)
        beast = ("--rgw-frontends", f"beast endpoint=127.0.0.1:{port}")
        running.append(start("radosgw", "-n", "client.rgw", *beast))

        def user(name: str, key: Key) -> Key:
            who = ("--uid", name, "--display-name", name)
            what = ("--access-key", key.access, "--secret-key", key.secret)
            ceph("radosgw-admin", "-n", "client.rgw", "user", "create", *who, *what)
            return key

        server = S3Server("radosgw", f"http://127.0.0.1:{port}", processes=running)

        def grant(name: str, policy: Mapping[str, Any]) -> Key:
            key = user(name, Key(f"{name}-key", f"{name}-secret-never-shown"))
            server.client("iam").put_user_policy(
                UserName=name, PolicyName="speech", PolicyDocument=json.dumps(policy)
            )
            return key

        wait_until(lambda: _answers(server.url), running, folder)
        user("owner", OWNER)
        right = ("--uid", "owner", "--caps", "user-policy=*")
        ceph("radosgw-admin", "-n", "client.rgw", "caps", "add", *right)
        wait_until(makes_bucket(server), running, folder)
        yield with_policies(server, grant, folder)


SWIFT_PART = Path(__file__).parent / "swift_part.py"
DEBIANS_PYTHON = "/usr/bin/python3"
SWIFT = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
user = root
workers = 0
log_address = {folder}/no-syslog
fallocate_reserve = 0
{more}
"""
STORES = """[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""
# Tokens would be kept in memcached. S3's signatures need none, and tempauth asks for it in vain.
PROXY = """[pipeline:main]
pipeline =
  catch_errors gatekeeper proxy-logging cache listing_formats s3api tempauth slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:proxy-logging]
use = egg:swift#proxy_logging
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = {region}
s3_acl = false
[filter:tempauth]
use = egg:swift#tempauth
user_speech_owner = {secret} .admin
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""


@contextmanager
def swift(folder: Path) -> Iterator[S3Server]:
    """Run Swift's four servers; its S3 interface has no policies, and insists on its region."""
    parts = ("account", "container", "object", "proxy")
    *ports, memcached = free_ports(len(parts) + 1)
    ports_of = dict(zip(parts, ports, strict=True))
    (folder / "devices" / "one").mkdir(parents=True)
    path = {"PYTHONPATH": str(LOOPBACK_ONLY)}
    with ExitStack() as stack:
        running = []
        for part, port in ports_of.items():
            if part == "proxy":
                more = PROXY.format(memcached=memcached, region=REGION, secret=OWNER.secret)
            else:
                more = STORES.format(name=part)
                command = [DEBIANS_PYTHON, SWIFT_PART, "ring", folder, part, str(port)]
                subprocess.run(command, check=True, timeout=60, capture_output=True)
            conf = folder / f"{part}.conf"
            conf.write_text(SWIFT.format(port=port, folder=folder, more=more))
            command = [DEBIANS_PYTHON, SWIFT_PART, "serve", conf, f"{part}-server"]
            running.append(stack.enter_context(process(command, folder, part, **path)))
        key = Key("speech:owner", OWNER.secret)
        url = f"http://127.0.0.1:{ports_of['proxy']}"
        server = S3Server("swift", url, owner=key, worker=key, processes=running)
        wait_until(makes_bucket(server), running, folder)
        yield server


def _answers(url: str) -> bool:
    """Tell whether a server answers there, whatever it says."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
