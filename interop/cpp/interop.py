"""Scenarios on the official C++ 4.x client, through the PyPI package `rocketmq` (ctypes on librocketmq).

Arguments: name server address, prefix of topics and groups, count of messages of the counting scenario.
One line a scenario: "PASS name", "FAIL name reason" or "SKIP name reason".
"""

import ctypes
import os
import random
import subprocess
import sys
import threading
import time
import traceback

from rocketmq.client import Message, Producer, PullConsumer, PushConsumer, RecvMessage, SendStatus
from rocketmq.ffi import MessageModel, _CConsumeStatus, _CLogLevel, _CMessageQueue, _CPullStatus, dll

LIMIT = 4 * 1024 * 1024
WAVE = 200

NAME_SERVER, PREFIX, COUNT = sys.argv[1], sys.argv[2], int(sys.argv[3])

printing = threading.Lock()
failed = False
# Everything lives as long as the process: the library calls back into Python after an object is gone if it is collected too early, and
# now and then a shutdown ends the process ("terminate called after throwing an instance of 'boost::thread_interrupted'").
alive = []


class Skip(Exception):
    """A scenario that this client cannot express."""


def run(name, scenario, *arguments):
    global failed
    begin = time.monotonic()
    try:
        scenario(*arguments)
        line = "PASS " + name
    except Skip as skip:
        line = f"SKIP {name} {skip}"
    except BaseException as error:
        traceback.print_exc()
        line = f"FAIL {name} " + " ".join(f"{type(error).__name__} {error}".split())
    with printing:
        failed = failed or line.startswith("FAIL")
        print(line, flush=True)
        print(f"{name} took {time.monotonic() - begin:.1f} s", file=sys.stderr, flush=True)


def check(condition, otherwise):
    if not condition:
        raise AssertionError(otherwise)


def wait(seconds, what, condition):
    """Waits until the condition holds, at most so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < deadline, f"{what} did not happen within {seconds} s")
        time.sleep(0.02)


def topic(name):
    return f"{PREFIX}_{name}"


def group(name):
    return f"g_{PREFIX}_{name}"


def producer(name):
    made = Producer(group("p_" + name), timeout=10_000, max_message_size=4 * LIMIT)
    alive.append(made)
    dll.SetProducerInstanceName(made._handle, f"i{os.getpid()}-{len(alive)}".encode())
    made.set_namesrv_addr(NAME_SERVER)
    dll.SetProducerLogLevel(made._handle, _CLogLevel.ERROR)
    made.start()
    return made


def consumer(name, of, callback, expression="*", orderly=False, model=MessageModel.CLUSTERING):
    made = PushConsumer(group(name), orderly=orderly, message_model=model)
    alive.append(made)
    made.set_namesrv_addr(NAME_SERVER)
    made.set_instance_name(f"i{os.getpid()}-{len(alive)}")
    made.set_thread_count(2)
    made.subscribe(of, callback, expression)
    made.start()
    return made


def message(of, body, tag=None, key=None, **properties):
    made = Message(of)
    if tag is not None:
        made.set_tags(tag)
    if key is not None:
        made.set_keys(key)
    for name, value in properties.items():
        made.set_property(name, value)
    # `set_body` ends at the first zero byte.
    dll.SetByteMessageBody(made._handle, body, len(body))
    return made


def text(pointer):
    return pointer.decode() if pointer is not None else None


def log_text():
    with open(os.path.expanduser(f"~/logs/rocketmq-cpp/{os.getpid()}_rocketmq-cpp.log.0"), errors="replace") as file:
        return file.read()


def printable(size):
    """A body without zero bytes: the package hands bodies back as C strings. The client compresses every body over 4 KiB, whatever it is told."""
    return random.Random(size).randbytes((size + 1) // 2).hex().encode()[:size]


class Sending:
    """Every way to send; one consumer collects the whole topic, by key."""

    def __init__(self):
        self.topic = topic("send")
        self.received = {}
        self.producer = producer("send")

    def collect(self, got):
        # Read first, then published: a body of 4 MiB takes a while.
        message = (got.body, text(got.tags), text(got.get_property("number")), text(got.get_property("地区")))
        self.received.setdefault(text(got.keys) or "", []).append(message)

    def one(self, key):
        wait(30, f"message {key}", lambda: self.received.get(key))
        check(len(self.received[key]) == 1, f"{key} came {len(self.received[key])} times")
        return self.received[key][0]

    def message(self, kind, i):
        return message(self.topic, f"{kind} body {i}".encode(), kind, f"{kind}-{i}", number=str(i))

    def expect(self, kind, count):
        for i in range(count):
            body, tag, number, _ = self.one(f"{kind}-{i}")
            check((body, tag, number) == (f"{kind} body {i}".encode(), kind, str(i)), f"another message came back: {body} {tag} {number}")

    def run(self):
        # The C interface cannot set where a new group begins; a group that is there before the first message sees them all.
        consumer("collector", self.topic, self.collect)
        run("send-sync", self.sync)
        run("send-async", self.send_async)
        run("send-oneway", self.one_way)
        run("send-batch", self.batch)
        run("chinese", self.chinese)
        run("filter-tags", self.filter_tags)
        run("query-key", self.skip, "the client has no queries")
        run("view-id", self.skip, "the client has no queries")
        run("auto-create", self.auto_create)
        run("body-0", self.empty)
        run("body-1k", self.body, "body-1k", 1024)
        run("body-4m-1", self.body, "body-4m-1", LIMIT - 1)
        run("body-over-4m", self.too_large)

    def skip(self, reason):
        raise Skip(reason)

    def sync(self):
        for i in range(20):
            result = self.producer.send_sync(self.message("sync", i))
            check(result.status == SendStatus.OK and result.offset >= 0, f"{result}")
        self.expect("sync", 20)

    def send_async(self):
        answers = []
        for i in range(20):
            self.producer.send_async(self.message("async", i), lambda result: answers.append(result.status), lambda error: answers.append(error))
        wait(20, "20 answers", lambda: len(answers) == 20)
        check(all(answer == SendStatus.OK for answer in answers), f"{answers}")
        self.expect("async", 20)

    def one_way(self):
        for i in range(20):
            self.producer.send_oneway(self.message("oneway", i))
        self.expect("oneway", 20)

    def batch(self):
        # This client marks a batch with `batch=1`, which RocketMQ reads as false: the server stores the batch as one message without keys, whose body
        # is the encoded batch. Apogee does the same.
        result = self.producer.send_batch([self.message("batch", i) for i in range(32)])
        check(result.status == SendStatus.OK, f"{result}")
        self.one("")

    def chinese(self):
        made = message(self.topic, "消息正文：你好，世界 🚀".encode(), "标签", "订单-中文键", 地区="北京市海淀区")
        self.producer.send_sync(made)
        body, tag, _, region = self.one("订单-中文键")
        check((body.decode(), tag, region) == ("消息正文：你好，世界 🚀", "标签", "北京市海淀区"), f"another message came back: {body} {tag} {region}")

    def filter_tags(self):
        got = []
        consumer("tags", topic("tags"), lambda each: got.append(text(each.keys)), "green || violet")
        want = []
        for i in range(40):
            tag = ["red", "green", "blue", "violet"][i % 4]
            self.producer.send_sync(message(topic("tags"), b"tagged", tag, f"t-{i}"))
            if i % 2 == 1:
                want.append(f"t-{i}")
        wait(30, "all of the subscribed tags", lambda: len(got) >= len(want))
        check(sorted(got) == sorted(want), f"received {got}")

    def auto_create(self):
        result = self.producer.send_sync(message(topic("auto"), b"created"))
        check(result.status == SendStatus.OK, f"{result}")

    def empty(self):
        try:
            self.producer.send_sync(message(self.topic, b"", "size", "body-0"))
        except Exception as refused:
            raise Skip("the client itself refuses an empty body: " + " ".join(str(refused).split())) from None
        self.one("body-0")

    def body(self, key, size):
        sent = printable(size)
        self.producer.send_sync(message(self.topic, sent, "size", key))
        check(self.one(key)[0] == sent, "another body came back")

    def too_large(self):
        # Bytes that do not compress, so that the server sees more than its limit.
        body = random.Random(1).randbytes(LIMIT + 4096)
        try:
            self.producer.send_sync(message(self.topic, body, "size", "body-over-4m"))
        except Exception:
            # The exception of the third attempt has lost the reason; the client's log has it.
            check("error code:13" in log_text(), "refused otherwise, see the client's log")
            return
        raise AssertionError("the server took it")


class Seen:
    """What one instance has received: message numbers, and the last number of each queue."""

    def __init__(self):
        self.numbers = set()
        self.last = {}
        self.disorder = None

    def add(self, got):
        self.note(int(got.body), got.queue_id)

    def note(self, number, queue):
        if self.last.get(queue, -1) >= number:
            self.disorder = f"queue {queue}: {number} after {self.last[queue]}"
        self.last[queue] = number
        self.numbers.add(number)


class Member:
    """A consumer in a process of its own, so that it can leave its group: it prints what it receives, and is killed."""

    def __init__(self, name, of, orderly, seen):
        arguments = [sys.executable, __file__, *sys.argv[1:4], name, of, str(orderly)]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.read, args=(seen,), daemon=True).start()

    def read(self, seen):
        for line in self.process.stdout:
            number, queue = line.split()
            seen.note(int(number), int(queue))

    def leave(self):
        self.process.kill()
        self.process.wait()


def be_member(name, of, orderly):
    """What `Member` starts. Ends with the process that started it, if it is not killed before."""
    # In one system call each: callbacks come from several threads.
    say = lambda got: os.write(1, f"{int(got.body)} {got.queue_id}\n".encode())
    consumer(name, of, say, orderly=orderly == "True")
    sys.stdin.read()
    os._exit(0)


def wave(by, of, start):
    for number in range(start, start + WAVE):
        by.send_orderly(message(of, str(number).encode()), number)


def rebalance(name, orderly):
    """One instance takes a first wave, two share a second, the remaining one takes a third."""
    of = topic(name)
    by = producer(name)
    first, second = Seen(), Seen()
    both = lambda start: set(range(start, start + WAVE)) <= first.numbers | second.numbers
    one = Member(name, of, orderly, first)
    # See Sending.run: the group must own its queues before the first message.
    probe_until(lambda number: by.send_orderly(message(of, str(number).encode()), number), first, 4)
    base = 10_000
    wave(by, of, base)
    wait(60, "the first wave at one instance", lambda: both(base))
    consumer(name, of, second.add, orderly=orderly)
    # The queues change hands some time after the second instance's first heartbeat: send until both receive.
    deadline = time.monotonic() + 100
    while True:
        base += WAVE
        wave(by, of, base)
        wait(100, "a wave at two instances", lambda: both(base))
        here = set(range(base, base + WAVE))
        if first.numbers & here and second.numbers & here:
            break
        check(time.monotonic() < deadline, "the queues were never shared")
        time.sleep(0.2)
    one.leave()
    base += WAVE
    wave(by, of, base)
    wait(100, "the last wave at the remaining instance", lambda: both(base) and len(second.last) == 4)
    if orderly:
        check(first.disorder is None and second.disorder is None, f"{first.disorder} {second.disorder}")


def probe_until(send, seen, queues):
    """Sends until something of every queue has come: a new group begins at the end of each queue."""
    deadline = time.monotonic() + 60
    number = 0
    while len(seen.last) < queues:
        check(time.monotonic() < deadline, f"only {len(seen.last)} of {queues} queues were ever received")
        for _ in range(queues):
            send(number)
            number += 1
        time.sleep(0.2)


def broadcast():
    of = topic("broadcast")
    by = producer("broadcast")
    all_seen = [Seen(), Seen()]
    for each in all_seen:
        consumer("broadcast", of, each.add, model=MessageModel.BROADCASTING)
    for each in all_seen:
        probe_until(lambda number: by.send_orderly(message(of, str(number).encode()), number), each, 4)
    wave(by, of, 10_000)
    for each in all_seen:
        wait(60, "every message at every instance", lambda: set(range(10_000, 10_000 + WAVE)) <= each.numbers)


def delayed():
    """A message with a level comes after the second that the broker's first level lasts."""
    of = topic("delayed")
    by = producer("delayed")
    probes, came, early = Seen(), set(), []

    def take(got):
        body = text(got.body)
        if body.isdigit():
            probes.note(int(body), got.queue_id)
            return
        waited = got.store_timestamp - got.born_timestamp
        if waited < 1000:
            early.append(f"{body} after {waited} ms")
        came.add(body)

    consumer("delayed", of, take)
    # See Sending.run.
    probe_until(lambda number: by.send_sync(message(of, str(number).encode())), probes, 1)
    for i in range(20):
        made = message(of, f"delayed {i}".encode())
        made.set_delay_time_level(1)
        by.send_sync(made)
    wait(60, "every delayed message", lambda: len(came) == 20)
    check(not early, f"early: {early}")


def retried():
    """A message that fails comes again, counted."""
    of = topic("retried")
    by = producer("retried")
    probes, came = Seen(), []

    def take(_, pointer):
        got = RecvMessage(pointer)
        body = text(got.body)
        if body.isdigit():
            probes.note(int(body), got.queue_id)
            return _CConsumeStatus.CONSUME_SUCCESS.value
        came.append((body, got.reconsume_times))
        return (_CConsumeStatus.CONSUME_SUCCESS if got.reconsume_times == 2 else _CConsumeStatus.RECONSUME_LATER).value

    made = PushConsumer(group("retried"))
    alive.append(made)
    made.set_namesrv_addr(NAME_SERVER)
    made.set_instance_name(f"i{os.getpid()}-{len(alive)}")
    dll.Subscribe(made._handle, of.encode(), b"*")
    # The package's own `subscribe` loses what the callback says.
    made._register_callback(take)
    made.start()
    probe_until(lambda number: by.send_sync(message(of, str(number).encode())), probes, 1)
    by.send_sync(message(of, b"fails"))
    wait(100, "the second retry", lambda: len(came) >= 3)
    check(came == [("fails", 0), ("fails", 1), ("fails", 2)], f"came {came}")


def pull():
    of = topic("pull")
    by = producer("pull")
    wave(by, of, 0)
    puller = PullConsumer(group("pull"))
    alive.append(puller)
    puller.set_namesrv_addr(NAME_SERVER)
    puller.start()
    queues, count = ctypes.POINTER(_CMessageQueue)(), ctypes.c_int()
    dll.FetchSubscriptionMessageQueues(puller._handle, of.encode(), ctypes.pointer(queues), ctypes.pointer(count))
    numbers = set()
    for queue in (queues[i] for i in range(count.value)):
        offset, end = 0, 1
        while offset < end:
            result = dll.Pull(puller._handle, ctypes.pointer(queue), b"*", offset, 32)
            check(result.pullStatus == _CPullStatus.FOUND, f"status {result.pullStatus}")
            for i in range(result.size):
                got = RecvMessage(result.msgFoundList[i])
                check(got.queue_offset == offset, f"offset {got.queue_offset} at {offset}")
                numbers.add(int(got.body))
                offset += 1
            check(result.nextBeginOffset == offset, f"next {result.nextBeginOffset} at {offset}")
            end = result.maxOffset
            dll.ReleasePullResult(result)
    check(numbers == set(range(WAVE)), f"pulled {len(numbers)}")
    dll.ReleaseSubscriptionMessageQueue(queues)


def send_patiently(by, what):
    """The client gives up without having sent when its own timers hold the connection's lock; it says then that there is no route."""
    for attempt in range(20):
        try:
            return by.send_sync(what)
        except Exception as error:
            if attempt == 19 or "No route info" not in str(error):
                raise
            time.sleep(0.05)


def count():
    """Many messages: in order per queue and sender, none lost, none twice."""
    of = topic("count")
    senders = 4
    numbers, lanes, offsets, problems = set(), {}, {}, []

    def take(got):
        body = got.body
        sender, number = (int(each) for each in body.split(b"-"))
        if sender == senders:
            offsets[got.queue_id] = got.queue_offset
            return
        queue, offset = got.queue_id, got.queue_offset
        if offset != offsets.get(queue, offset - 1) + 1:
            problems.append(f"queue {queue}: offset {offset} after {offsets[queue]}")
        if lanes.get((queue, sender), -1) >= number:
            problems.append(f"queue {queue}: number {number} after {lanes[queue, sender]}")
        if number in numbers:
            problems.append(f"number {number} twice")
        offsets[queue] = offset
        lanes[queue, sender] = number
        numbers.add(number)

    consumer("count", of, take, orderly=True)
    # Batches would not be counted one by one, see Sending.batch.
    by = producer("count")
    deadline = time.monotonic() + 60
    while len(offsets) < 8:
        check(time.monotonic() < deadline, f"only {len(offsets)} of 8 queues were ever received")
        for i in range(8):
            by.send_orderly(message(of, f"{senders}-0".encode()), i)
        time.sleep(0.2)
    failures = []

    def send(sender):
        try:
            # A producer a thread: threads that share one are refused the connection while another uses it ("get timed_mutex timeout").
            mine = producer(f"count{sender}")
            for number in range(sender, COUNT, senders):
                send_patiently(mine, message(of, f"{sender}-{number}".encode()))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not failures, f"{failures}")
    wait(120, f"{COUNT} messages", lambda: len(numbers) >= COUNT or problems)
    check(not problems, "; ".join(problems[:3]))


def main():
    together = [
        lambda: Sending().run(),
        lambda: run("push-concurrent", rebalance, "concurrent", False),
        lambda: run("push-orderly", rebalance, "orderly", True),
        lambda: run("broadcast", broadcast),
        lambda: run("pull", pull),
        lambda: run("delayed", delayed),
        lambda: run("retried", retried),
        # The orderly scenario mostly waits for a lock to expire.
        lambda: run("count", count),
    ]
    threads = [threading.Thread(target=each) for each in together]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("SKIP lite-pull the client has no lite pull consumer", flush=True)
    # The library's destructors race with the interpreter's end; nothing is left to do.
    sys.stdout.flush()
    os._exit(1 if failed else 0)


be_member(*sys.argv[4:]) if len(sys.argv) > 4 else main()
