"""What the interoperability test has kazoo do: reads one command a line (JSON), answers one a line."""
import json
import sys

from kazoo.client import KazooClient

client = KazooClient(hosts=sys.argv[1])
client.start(timeout=20)


def stat_of(stat):
    names = ["czxid", "mzxid", "ctime", "mtime", "version", "cversion", "aversion", "ephemeralOwner"]
    names += ["dataLength", "numChildren", "pzxid"]
    return {name: str(value) for name, value in zip(names, stat)}


def run(command):
    kind, path = command["kind"], command["path"]
    if kind == "create":
        return client.create(path, command["data"].encode(), ephemeral=command.get("ephemeral", False))
    if kind == "get":
        data, stat = client.get(path)
        return {"data": data.decode(), "stat": stat_of(stat)}
    if kind == "children":
        return sorted(client.get_children(path))
    transaction = client.transaction()
    transaction.create(path, b"1")
    transaction.set_data(path, b"2", 0)
    return [type(result).__name__ for result in transaction.commit()]


print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    print(json.dumps(run(json.loads(line))), flush=True)
client.stop()
