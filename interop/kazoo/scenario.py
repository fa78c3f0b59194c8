"""kazoo, unmodified, against the server that the first argument names.

Standard output carries only `ok`, `FAIL`, `RESTART?`, `OURS?` and `END` lines; after `RESTART? how` the
runner restarts the server and answers `DONE`; after `OURS? verb ...` it uses a recipe of Farrier's and answers
`DONE`, with what there is to tell.
"""

import logging
import queue
import sys
import threading
import time

from kazoo import exceptions as err
from kazoo.client import KazooClient, KazooState
from kazoo.protocol.states import EventType
from kazoo.recipe.barrier import DoubleBarrier
from kazoo.recipe.watchers import ChildrenWatch, DataWatch
from kazoo.retry import KazooRetry
from kazoo.security import ACL, Id, make_acl, make_digest_acl, make_digest_acl_credential

# Longest wait for anything that must happen, in seconds; no test asserts a duration.
WAIT = 60

logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
passed = failed = 0
CONNECT = sys.argv[1]


def step(name):
    """Runs the decorated function at once as a named step."""

    def run(body):
        global passed, failed
        try:
            body()
        except BaseException as e:  # a step must not end the others
            failed += 1
            trace, line = e.__traceback__, 0
            while trace:
                if trace.tb_frame.f_code.co_filename == __file__:
                    line = trace.tb_lineno
                trace = trace.tb_next
            text = f"{type(e).__name__} {e} at line {line}".replace("\n", " ")
            print(f"FAIL kazoo {name}: {text}", flush=True)
        else:
            passed += 1
            print(f"ok kazoo {name}", flush=True)

    return run


def restart(how):
    print(f"RESTART? {how}", flush=True)
    answer = sys.stdin.readline().strip()
    if answer != "DONE":
        raise RuntimeError(f"restart was answered by {answer!r}")


def ours(*words):
    """Has Farrier's recipe do something, and returns what it tells."""
    print("OURS?", *words, flush=True)
    answer = sys.stdin.readline().strip()
    if answer.split(" ")[0] != "DONE":
        raise RuntimeError(f"{words} was answered by {answer!r}")
    return answer[5:]


def asked(question):
    """What the runner, which holds Farrier's recipes for us, answers."""
    print(question, flush=True)
    return sys.stdin.readline().strip()


def exclude_each_other(what, path, take, let_go):
    """While one side holds it the other one does not get it, and gets it afterwards."""
    assert take(), "free"
    equal("TAKEN", asked(f"HOLD? {what} kazoo {path}"), "held by kazoo")
    let_go()
    equal("HELD", asked(f"HOLD? {what} kazoo {path}"), "free again")
    assert not take(), "held by Farrier"
    equal("DONE", asked(f"LET GO? {path}"))
    assert take(), "free once more"
    let_go()


def client(hosts=CONNECT, timeout=20.0, **more):
    retry = KazooRetry(max_tries=-1, delay=0.1, max_delay=1)
    c = KazooClient(hosts=hosts, timeout=timeout, connection_retry=retry, **more)
    c.start(timeout=WAIT)
    return c


def eventually(holds, what):
    end = time.monotonic() + WAIT
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"never happened: {what}")
        time.sleep(0.05)


def equal(want, got, what=""):
    assert want == got, f"{what}: want {want!r}, got {got!r}"


def refused(kind, call, *args, **kw):
    try:
        got = call(*args, **kw)
    except kind:
        return
    raise AssertionError(f"want {kind.__name__}, got success {got!r}")


class Seen:
    """A watcher that keeps what it saw."""

    def __init__(self):
        self.events = queue.Queue()

    def __call__(self, event):
        if event.type != EventType.NONE:
            self.events.put(event)

    def next(self):
        e = self.events.get(timeout=WAIT)
        return f"{e.type} {e.path}"

    def none(self):
        return self.events.empty()


zk = None


@step("connect")
def _():
    global zk
    zk = client()
    assert zk.client_id[0] != 0
    equal(16, len(zk.client_id[1]))
    equal(3, zk.server_version()[0])
    zk.create("/kazoo", b"root")


@step("create-read-update-delete")
def _():
    path, made = zk.create("/kazoo/a", b"one", include_data=True)
    equal("/kazoo/a", path)
    data, stat = zk.get("/kazoo/a")
    equal((b"one", made), (data, stat))
    equal((stat.czxid, stat.czxid, 0, 3), (stat.mzxid, stat.pzxid, stat.version, stat.data_length))
    stat = zk.set("/kazoo/a", b"two!", version=0)
    equal(1, stat.version)
    equal(stat, zk.exists("/kazoo/a"))
    zk.create("/kazoo/a/b")
    equal(b"", zk.get("/kazoo/a/b")[0])
    zk.ensure_path("/kazoo/a/c/d/e")
    children, stat = zk.get_children("/kazoo/a", include_data=True)
    equal((["b", "c"], 2, 2), (sorted(children), stat.cversion, stat.numChildren))
    zk.delete("/kazoo/a", recursive=True)
    equal(None, zk.exists("/kazoo/a"))
    zk.create("/kazoo/\u00fcn\u00ef \u2603", b"x")
    assert "\u00fcn\u00ef \u2603" in zk.get_children("/kazoo")
    large = bytes(i * 31 % 256 for i in range(1_000_000))
    zk.create("/kazoo/large", large)
    equal(large, zk.get("/kazoo/large")[0], "a megabyte")
    zk.delete("/kazoo/large")


@step("create-modes")
def _():
    zk.create("/kazoo/seq")
    equal("/kazoo/seq/n-0000000000", zk.create("/kazoo/seq/n-", sequence=True))
    equal("/kazoo/seq/n-0000000001", zk.create("/kazoo/seq/n-", sequence=True, ephemeral=True))
    equal(zk.client_id[0], zk.exists("/kazoo/seq/n-0000000001").ephemeralOwner)
    equal(0, zk.exists("/kazoo/seq/n-0000000000").ephemeralOwner)
    zk.create("/kazoo/made/on/the/way", b"x", makepath=True)


@step("errors")
def _():
    zk.create("/kazoo/e/c", makepath=True)
    zk.create("/kazoo/eph", ephemeral=True)
    refused(err.NodeExistsError, zk.create, "/kazoo/e")
    refused(err.NoNodeError, zk.create, "/kazoo/none/x")
    refused(err.NoNodeError, zk.get, "/kazoo/none")
    refused(err.NoNodeError, zk.get_children, "/kazoo/none")
    refused(err.BadVersionError, zk.set, "/kazoo/e", b"", version=7)
    refused(err.BadVersionError, zk.delete, "/kazoo/e/c", version=7)
    refused(err.NotEmptyError, zk.delete, "/kazoo/e")
    refused(err.NoChildrenForEphemeralsError, zk.create, "/kazoo/eph/x")
    refused(err.InvalidACLError, zk.create, "/kazoo/x", acl=[ACL(31, Id("nothing", "x"))])
    zk.delete("/kazoo/eph")


@step("one-shot-watches")
def _():
    exists, data, child = Seen(), Seen(), Seen()
    equal(None, zk.exists("/kazoo/w", watch=exists))
    zk.create("/kazoo/w")
    equal("CREATED /kazoo/w", exists.next())
    zk.get("/kazoo/w", watch=data)
    zk.get_children("/kazoo/w", watch=child)
    zk.set("/kazoo/w", b"1")
    equal("CHANGED /kazoo/w", data.next())
    zk.set("/kazoo/w", b"2")
    zk.create("/kazoo/w/c")
    equal("CHILD /kazoo/w", child.next())
    assert data.none(), "a data watch fires once"
    zk.get_children("/kazoo/w", watch=child)
    zk.delete("/kazoo/w/c")
    equal("CHILD /kazoo/w", child.next())
    zk.get("/kazoo/w", watch=data)
    zk.delete("/kazoo/w")
    equal("DELETED /kazoo/w", data.next())


@step("watch-recipes")
def _():
    values, names = queue.Queue(), queue.Queue()
    zk.create("/kazoo/watched", b"0")
    DataWatch(zk, "/kazoo/watched", func=lambda data, stat: values.put(data))
    ChildrenWatch(zk, "/kazoo/watched", func=lambda children: names.put(sorted(children)))
    equal(b"0", values.get(timeout=WAIT))
    equal([], names.get(timeout=WAIT))
    for i in range(1, 4):
        zk.set("/kazoo/watched", b"%d" % i)
        equal(b"%d" % i, values.get(timeout=WAIT))
        zk.create(f"/kazoo/watched/{i}")
        equal([str(n) for n in range(1, i + 1)], names.get(timeout=WAIT))


@step("acl-digest")
def _():
    alice = client(auth_data=[("digest", "alice:secret")])
    bob = client()
    bob.add_auth("digest", "bob:other")
    everything = make_digest_acl("alice", "secret", all=True)
    alice.create("/kazoo/alice", b"hers", acl=[everything])
    refused(err.NoAuthError, bob.get, "/kazoo/alice")
    refused(err.NoAuthError, bob.set, "/kazoo/alice", b"")
    refused(err.NoAuthError, bob.create, "/kazoo/alice/c")
    refused(err.NoAuthError, bob.set_acls, "/kazoo/alice", [everything])
    acls, stat = alice.get_acls("/kazoo/alice")
    equal(([everything], 0), (acls, stat.aversion))
    stat = alice.set_acls("/kazoo/alice", [everything, make_acl("world", "anyone", read=True)], version=0)
    equal(1, stat.aversion)
    refused(err.BadVersionError, alice.set_acls, "/kazoo/alice", [everything], version=0)
    equal(b"hers", bob.get("/kazoo/alice")[0])
    alice.create("/kazoo/auth", acl=[make_acl("auth", "", all=True)])
    credential = make_digest_acl_credential("alice", "secret")
    equal(Id("digest", credential), alice.get_acls("/kazoo/auth")[0][0].id)
    for c in (alice, bob):
        c.stop()
        c.close()


@step("transaction")
def _():
    t = zk.transaction()
    t.create("/kazoo/t", b"t")
    t.create("/kazoo/t/s-", sequence=True)
    t.set_data("/kazoo/t", b"tt", version=0)
    t.check("/kazoo/t", version=1)
    t.delete("/kazoo/t/s-0000000000")
    results = t.commit()
    equal(["/kazoo/t", "/kazoo/t/s-0000000000"], results[:2])
    equal((1, True, True), (results[2].version, results[3], results[4]))
    t = zk.transaction()
    t.create("/kazoo/t2")
    t.delete("/kazoo/none")
    t.set_data("/kazoo/t", b"no")
    kinds = [type(r) for r in t.commit()]
    equal([err.RolledBackError, err.NoNodeError, err.RuntimeInconsistency], kinds)
    equal(None, zk.exists("/kazoo/t2"))
    equal(b"tt", zk.get("/kazoo/t")[0])


@step("pipelined-async")
def _():
    zk.create("/kazoo/async")
    made = [zk.create_async(f"/kazoo/async/{i}", b"%d" % i) for i in range(300)]
    read = [zk.get_async(f"/kazoo/async/{i}") for i in range(300)]
    for i in range(300):
        equal(f"/kazoo/async/{i}", made[i].get(timeout=WAIT))
        equal(b"%d" % i, read[i].get(timeout=WAIT)[0])
    equal("/kazoo", zk.sync("/kazoo"))


@step("ephemerals")
def _():
    seen = Seen()
    owner = client()
    owner.create("/kazoo/eph-1", ephemeral=True)
    equal(owner.client_id[0], zk.exists("/kazoo/eph-1", watch=seen).ephemeralOwner)
    owner.stop()
    owner.close()
    equal("DELETED /kazoo/eph-1", seen.next())


@step("re-attach")
def _():
    first = client()
    first.create("/kazoo/attached", ephemeral=True)
    identity = first.client_id
    second = client(client_id=identity)
    equal(identity[0], second.client_id[0])
    equal(identity[0], zk.exists("/kazoo/attached").ephemeralOwner)
    second.stop()
    second.close()
    eventually(lambda: zk.exists("/kazoo/attached") is None, "closed by the second client")
    first.stop()
    first.close()


@step("lock-semaphore-counter-queue-election")
def _():
    other = client()
    inside, order = [], []

    def work(c, name):
        for _ in range(5):
            with c.Lock("/kazoo/lock", name):
                inside.append(name)
                assert len(inside) == 1, "two holders"
                order.append(name)
                inside.pop()

    threads = [threading.Thread(target=work, args=a) for a in ((zk, "one"), (other, "two"))]
    for t in threads:
        t.start()
    for t in threads:
        t.join(WAIT)
    equal(10, len(order), "turns")
    held = zk.Lock("/kazoo/lock2", "one")
    assert held.acquire(timeout=WAIT)
    refused(err.LockTimeout, other.Lock("/kazoo/lock2", "two").acquire, timeout=0.3)
    equal(["one"], other.Lock("/kazoo/lock2").contenders())
    held.release()
    leases = [c.Semaphore("/kazoo/sem", max_leases=2) for c in (zk, other, zk)]
    assert leases[0].acquire(timeout=WAIT) and leases[1].acquire(timeout=WAIT)
    assert not leases[2].acquire(blocking=False)
    leases[0].release()
    leases[1].release()
    a, b = zk.Counter("/kazoo/count"), other.Counter("/kazoo/count")
    a += 2
    b += 3
    equal(5, a.value)
    q = zk.LockingQueue("/kazoo/queue")
    q.put_all([b"a", b"b"])
    consumer = other.LockingQueue("/kazoo/queue")
    equal(b"a", consumer.get(timeout=WAIT))
    assert consumer.consume()
    equal(b"b", consumer.get(timeout=WAIT))
    assert consumer.consume()
    elected = threading.Event()
    zk.Election("/kazoo/election", "one").run(elected.set)
    assert elected.is_set()
    barrier = [DoubleBarrier(c, "/kazoo/barrier", 2) for c in (zk, other)]
    t = threading.Thread(target=lambda: (barrier[1].enter(), barrier[1].leave()))
    t.start()
    barrier[0].enter()
    barrier[0].leave()
    t.join(WAIT)
    assert not t.is_alive()
    other.stop()
    other.close()


@step("our-queue")
def _():
    theirs = zk.LockingQueue("/kazoo/shared-queue")
    theirs.put(b"a")
    ours("queue-put", "/kazoo/shared-queue", "b")
    ours("queue-put-plain", "/kazoo/shared-queue", "c")
    equal("a", ours("queue-take", "/kazoo/shared-queue"))
    # What we took they don't take, and the reverse.
    got = {theirs.get(timeout=WAIT)}
    assert theirs.holds_lock() and theirs.consume()
    ours("queue-give-back")
    got.add(theirs.get(timeout=WAIT))
    taken = ours("queue-take", "/kazoo/shared-queue").encode()
    equal({b"a", b"b", b"c"}, got | {taken}, "each to one of us")
    assert theirs.consume()
    equal(1, len(theirs))
    ours("queue-ack")
    equal(0, len(theirs))
    equal([], zk.get_children("/kazoo/shared-queue/taken"), "claims that are left")
    # Under kazoo's own names kazoo takes ours in order.
    for n in range(5):
        ours("queue-put-plain", "/kazoo/shared-queue", f"plain-{n}")
    for n in range(5):
        equal(b"plain-%d" % n, theirs.get(timeout=WAIT))
        assert theirs.consume()


@step("our-counter")
def _():
    for path, encoding, flag in (("/kazoo/shared-count", "decimal", False), ("/kazoo/shared-int", "int", True)):
        theirs = zk.Counter(path, support_curator=flag)
        theirs += 7
        equal("5", ours("counter-add", path, encoding, "-2"))
        theirs -= 8
        equal(-3, theirs.value)
        equal("-3", ours("counter-add", path, encoding, "0"))


@step("our-barrier")
def _():
    theirs = zk.Barrier("/kazoo/shared-barrier")
    theirs.create()
    equal("false", ours("barrier-close", "/kazoo/shared-barrier"))
    ours("barrier-wait", "/kazoo/shared-barrier")
    assert not theirs.wait(0.3)
    equal("true", ours("is-waiting"))
    assert theirs.remove()
    ours("waited")
    ours("barrier-close", "/kazoo/shared-barrier")
    assert not theirs.wait(0.1)
    ours("barrier-open", "/kazoo/shared-barrier")
    assert theirs.wait(WAIT)


@step("our-double-barrier")
def _():
    for _ in range(2):
        theirs = DoubleBarrier(zk, "/kazoo/shared-double", 2)
        ours("double-enter", "/kazoo/shared-double", "2")
        time.sleep(0.2)
        equal("true", ours("is-entering"))
        theirs.enter()
        ours("double-leave")
        time.sleep(0.2)
        equal("true", ours("is-waiting"))
        theirs.leave()
        ours("waited")
        try:
            equal([], zk.get_children("/kazoo/shared-double"))
        except err.NoNodeError:
            pass  # an empty container goes


@step("our-group")
def _():
    theirs = zk.Party("/kazoo/shared-group", "kazoo")
    theirs.join()
    ours("member-join", "/kazoo/shared-group", "farrier")
    equal(["farrier", "kazoo"], sorted(theirs))
    equal("farrier,kazoo", ours("member-list", "/kazoo/shared-group"))
    ours("member-leave")
    equal(["kazoo"], list(theirs))
    theirs.leave()
    equal("", ours("member-list", "/kazoo/shared-group"))


@step("farrier-recipes-beside-ours")
def _():
    lock = zk.Lock("/kazoo/both/lock", "kazoo")
    exclude_each_other("lock", "/kazoo/both/lock", lambda: lock.acquire(blocking=False), lock.release)
    # Its election is its lock, and ours in its layout, too.
    election = zk.Election("/kazoo/both/lead", "kazoo").lock
    exclude_each_other("lead", "/kazoo/both/lead", lambda: election.acquire(blocking=False), election.release)
    path = "/kazoo/both/rw"
    read, write = zk.ReadLock(path, "kazoo"), zk.WriteLock(path, "kazoo")
    exclude_each_other("write", path, lambda: write.acquire(blocking=False), write.release)
    exclude_each_other("write", path, lambda: read.acquire(blocking=False), read.release)
    exclude_each_other("read", path, lambda: write.acquire(blocking=False), write.release)
    equal("HELD", asked(f"HOLD? read kazoo {path}"))
    assert read.acquire(blocking=False), "readers share"
    read.release()
    equal("DONE", asked(f"LET GO? {path}"))
    # A waiter of kazoo's is woken by our release.
    equal("HELD", asked("HOLD? lock kazoo /kazoo/both/lock"))
    woken = threading.Event()
    waiting = threading.Thread(target=lambda: lock.acquire(timeout=WAIT) and woken.set())
    waiting.start()
    eventually(lambda: len(zk.get_children("/kazoo/both/lock")) == 2, "two in line")
    assert not woken.is_set()
    equal("DONE", asked("LET GO? /kazoo/both/lock"))
    waiting.join(WAIT)
    assert woken.is_set()
    lock.release()


def across_restart(how):
    base = f"/kazoo/restart-{how}"
    zk.create(base, b"before")
    eph = zk.create(base + "/eph-", ephemeral=True, sequence=True)
    session = zk.client_id[0]
    states, data, values = queue.Queue(), Seen(), queue.Queue()
    zk.add_listener(states.put)
    before = zk.exists(base)
    DataWatch(zk, base, func=lambda data, stat: values.put(data))
    equal(b"before", values.get(timeout=WAIT))
    restart(how)
    equal(KazooState.SUSPENDED, states.get(timeout=WAIT))
    equal(KazooState.CONNECTED, states.get(timeout=WAIT))
    equal(session, zk.client_id[0], "session")
    equal(session, zk.exists(eph).ephemeralOwner, "ephemeral")
    equal((b"before", before), zk.get(base))
    zk.set(base, b"after", version=0)
    equal(b"after", values.get(timeout=WAIT))
    # kazoo sets no watches again after a reconnect but hands each one the loss; its recipes re-read.
    zk.get(base, watch=data)
    equal(base + "/eph-0000000001", zk.create(base + "/eph-", ephemeral=True, sequence=True))
    zk.set(base, b"last", version=1)
    equal(f"CHANGED {base}", data.next())


@step("restart-after-kill")
def _():
    across_restart("kill")


@step("restart-after-term")
def _():
    across_restart("term")


@step("four-letter-word")
def _():
    text = zk.command(b"srvr")
    assert "Mode: standalone" in text and "Node count:" in text, text
    equal("imok", zk.command(b"ruok"))


@step("close")
def _():
    zk.create("/kazoo/last", ephemeral=True)
    zk.stop()
    zk.close()
    other = client()
    equal(None, other.exists("/kazoo/last"))
    other.stop()
    other.close()


print(f"END {passed} {failed}", flush=True)
sys.exit(0 if failed == 0 else 1)
