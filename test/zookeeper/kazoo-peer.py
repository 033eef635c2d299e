"""What the interoperability test has kazoo do: reads one command a line (JSON), answers one a line."""
import json
import sys

from kazoo.client import KazooClient
from kazoo.security import ACL, Id

client = KazooClient(hosts=sys.argv[1])
client.start(timeout=20)


def stat_of(stat):
    names = ["czxid", "mzxid", "ctime", "mtime", "version", "cversion", "aversion", "ephemeralOwner"]
    names += ["dataLength", "numChildren", "pzxid"]
    return {name: str(value) for name, value in zip(names, stat)}


def acl_of(entries):
    return [ACL(entry["perms"], Id(entry["scheme"], entry["id"])) for entry in entries]


def run(command):
    kind, path = command["kind"], command["path"]
    data = command.get("data", "").encode()
    if kind == "create":
        mode = command["mode"]
        ephemeral, sequence = mode.startswith("ephemeral"), mode.endswith("sequential")
        return client.create(path, data, acl_of(command["acl"]), ephemeral=ephemeral, sequence=sequence)
    if kind == "get":
        data, stat = client.get(path)
        return {"data": data.decode(), "stat": stat_of(stat)}
    if kind == "exists":
        return client.exists(path) is not None
    if kind == "children":
        return sorted(client.get_children(path))
    if kind == "acl":
        entries, _ = client.get_acls(path)
        return [{"perms": entry.perms, "scheme": entry.id.scheme, "id": entry.id.id} for entry in entries]
    if kind == "set":
        return client.set(path, data, command["version"]) and True
    if kind == "delete":
        return client.delete(path) and True
    transaction = client.transaction()
    transaction.create(path, b"1")
    transaction.set_data(path, data, 0)
    transaction.create(path + "/child", b"")
    transaction.delete(path + "/child")
    return all(not isinstance(result, Exception) for result in transaction.commit())


print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    print(json.dumps(run(json.loads(line))), flush=True)
client.stop()
