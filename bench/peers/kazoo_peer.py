"""kazoo as a contestant: see driver.ts for what is asked and answered."""
import statistics
import sys
import threading
import time

from kazoo.client import KazooClient

ZNODES, MULTI_SIZE, CREATES, VALUE = 100, 12, 100, b"x" * 100
client = KazooClient(hosts=sys.argv[1])
client.start(timeout=20)


def znode(number):
    return f"/znode-{number % ZNODES}"


def transaction(add, paths):
    multi = client.transaction()
    for path in paths:
        add(multi, path)
    return multi.commit_async()


def operation_of(row, tag):
    created = f"/created/{tag}"
    return {
        "getData": lambda number: client.get_async(znode(number)),
        "exists": lambda number: client.exists_async(znode(number)),
        "setData": lambda number: client.set_async(znode(number), VALUE),
        "create": lambda number: client.create_async(f"{created}/{number}", VALUE),
        "multi": lambda number: transaction(
            lambda multi, path: multi.set_data(path, VALUE),
            [znode(number * MULTI_SIZE + index) for index in range(MULTI_SIZE)],
        ),
        "creates": lambda number: transaction(
            lambda multi, path: multi.create(path, VALUE),
            [f"{created}/{number}-{index}" for index in range(CREATES)],
        ),
    }[row]


def drive(operation, in_flight, seconds):
    lock, over = threading.Lock(), threading.Event()
    counts = {"begun": 0, "completed": 0}
    end = time.perf_counter() + seconds

    def begin():
        with lock:
            number = counts["begun"]
            counts["begun"] += 1
        operation(number).rawlink(finish)

    def finish(result):
        if result.exception:
            print(result.exception, file=sys.stderr, flush=True)
        with lock:
            counts["completed"] += 1
            is_over = counts["completed"] == counts["begun"] >= in_flight
        if time.perf_counter() < end:
            begin()
        elif is_over:
            over.set()

    for _ in range(in_flight):
        begin()
    over.wait()
    return counts["completed"], 0


def watch_latency(seconds):
    latencies = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        fired = threading.Event()
        client.get(znode(0), watch=lambda event: fired.set())
        begun = time.perf_counter()
        client.set_async(znode(0), VALUE)
        fired.wait()
        latencies.append((time.perf_counter() - begun) * 1e6)
    return len(latencies), statistics.median(latencies)


def walk(in_flight):
    room = threading.Semaphore(in_flight)

    def send(request):
        room.acquire()
        request.rawlink(lambda _: room.release())
        return request

    tops = [f"/walk/{name}" for name in client.get_children("/walk")]
    lists = [(top, send(client.get_children_async(top))) for top in tops]
    last = [send(client.get_async(top)) for top in tops]
    count = 1 + 2 * len(tops)
    for top, listing in lists:
        names = listing.get()
        last = [send(client.get_async(f"{top}/{name}")) for name in names]
        count += len(names)
    for request in last:
        request.get()
    return count, 0


def answer(row, in_flight, milliseconds, tag):
    if row == "watch":
        return watch_latency(int(milliseconds) / 1000)
    if row == "walk":
        return walk(int(in_flight))
    return drive(operation_of(row, tag), int(in_flight), int(milliseconds) / 1000)


print("ready", flush=True)
for line in sys.stdin:
    begun, cpu = time.perf_counter(), time.process_time()
    operations, p50 = answer(*line.split())
    cpu_us, elapsed_us = (time.process_time() - cpu) * 1e6, (time.perf_counter() - begun) * 1e6
    print(operations, round(elapsed_us), round(cpu_us), round(p50), flush=True)
