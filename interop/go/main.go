// go-zookeeper, unmodified, against the server that the first argument names.
//
// Standard output carries only ok, FAIL, RESTART? and END lines; after "RESTART? how" the runner
// restarts the server and answers DONE.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"reflect"
	"runtime"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

// Longest wait for anything that must happen; no test asserts a duration.
const wait = 60 * time.Second

const sessionTimeout = 20 * time.Second

var (
	server         string
	control        = bufio.NewReader(os.Stdin)
	everyone       = zk.WorldACL(zk.PermAll)
	passed, failed int
	conn           *zk.Conn
)

// failure is what the checks below panic with.
type failure struct{ text string }

func step(name string, body func()) {
	defer func() {
		switch e := recover().(type) {
		case nil:
			passed++
			fmt.Println("ok go " + name)
		case failure:
			failed++
			fmt.Printf("FAIL go %s: %s\n", name, strings.ReplaceAll(e.text, "\n", " "))
		default:
			panic(e)
		}
	}()
	body()
}

func fail(format string, args ...interface{}) {
	at := ""
	for depth := 1; depth < 8; depth++ {
		_, file, line, ok := runtime.Caller(depth)
		if !ok || !strings.HasSuffix(file, "main.go") {
			break
		}
		at += fmt.Sprintf(" <%d", line)
	}
	panic(failure{fmt.Sprintf(format, args...) + at})
}

func check(holds bool, what string) {
	if !holds {
		fail("%s", what)
	}
}

func equal(want, got interface{}) {
	if !reflect.DeepEqual(want, got) {
		fail("want %v, got %v", want, got)
	}
}

func must(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func refused(want, got error) {
	if !errors.Is(got, want) {
		fail("want %v, got %v", want, got)
	}
}

func restart(how string) {
	fmt.Println("RESTART? " + how)
	answer, err := control.ReadString('\n')
	if err != nil || strings.TrimSpace(answer) != "DONE" {
		fail("restart was answered by %q, %v", answer, err)
	}
}

func eventually(holds func() bool, what string) {
	for end := time.Now().Add(wait); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			fail("never happened: %s", what)
		}
	}
}

func open() (*zk.Conn, <-chan zk.Event) {
	c, events, err := zk.Connect([]string{server}, sessionTimeout, zk.WithLogger(log.New(io.Discard, "", 0)))
	must(err)
	await(events, zk.StateHasSession)
	return c, events
}

func await(events <-chan zk.Event, state zk.State) {
	late := time.After(wait)
	for {
		select {
		case e := <-events:
			if e.State == state {
				return
			}
		case <-late:
			fail("never %v", state)
		}
	}
}

func next(events <-chan zk.Event) string {
	select {
	case e := <-events:
		must(e.Err)
		return fmt.Sprintf("%v %s", e.Type, e.Path)
	case <-time.After(wait):
		fail("no event")
		return ""
	}
}

func create(path string, data string, flags int32) string {
	made, err := conn.Create(path, []byte(data), flags, everyone)
	must(err)
	return made
}

func main() {
	server = os.Args[1]
	step("connect", func() {
		conn, _ = open()
		check(conn.SessionID() != 0, "session id")
		equal(zk.StateHasSession, conn.State())
		create("/go", "root", 0)
	})
	step("create-read-update-delete", crud)
	step("create-modes", createModes)
	step("errors", refusals)
	step("one-shot-watches", watches)
	step("acl-digest", aclDigest)
	step("multi", multi)
	step("container-and-ttl", containerAndTTL)
	step("pipelined", pipelined)
	step("ephemerals", ephemerals)
	step("lock", locks)
	step("four-letter-words", words)
	step("restart-after-kill", func() { acrossRestart("kill") })
	step("restart-after-term", func() { acrossRestart("term") })
	step("close", func() {
		create("/go/last", "", zk.FlagEphemeral)
		conn.Close()
		other, _ := open()
		there, _, err := other.Exists("/go/last")
		must(err)
		check(!there, "ephemeral after close")
		other.Close()
	})
	fmt.Printf("END %d %d\n", passed, failed)
	if failed != 0 {
		os.Exit(1)
	}
}

func crud() {
	equal("/go/a", create("/go/a", "one", 0))
	data, first, err := conn.Get("/go/a")
	must(err)
	equal("one", string(data))
	equal(first.Czxid, first.Mzxid)
	equal(int32(3), first.DataLength)
	second, err := conn.Set("/go/a", []byte("two!"), 0)
	must(err)
	equal(int32(1), second.Version)
	there, third, err := conn.Exists("/go/a")
	must(err)
	check(there, "exists")
	equal(second, third)
	create("/go/a/c", "", 0)
	_, err = conn.Create("/go/a/b", nil, 0, everyone)
	must(err)
	children, parent, err := conn.Children("/go/a")
	must(err)
	sort.Strings(children)
	equal([]string{"b", "c"}, children)
	equal(int32(2), parent.Cversion)
	must(conn.Delete("/go/a/b", 0))
	must(conn.Delete("/go/a/c", -1))
	must(conn.Delete("/go/a", 1))
	there, _, err = conn.Exists("/go/a")
	must(err)
	check(!there, "deleted")
	create("/go/ünï ☃", "x", 0)
	large := bytes.Repeat([]byte("large data"), 100_000)
	_, err = conn.Create("/go/large", large, 0, everyone)
	must(err)
	data, _, err = conn.Get("/go/large")
	must(err)
	check(bytes.Equal(large, data), "a megabyte comes back")
	must(conn.Delete("/go/large", -1))
	_, err = conn.Sync("/go")
	must(err)
}

func createModes() {
	create("/go/seq", "", 0)
	equal("/go/seq/n-0000000000", create("/go/seq/n-", "", zk.FlagSequence))
	eph := create("/go/seq/n-", "", zk.FlagEphemeralSequential)
	equal("/go/seq/n-0000000001", eph)
	_, stat, err := conn.Exists(eph)
	must(err)
	equal(conn.SessionID(), stat.EphemeralOwner)
	path, err := conn.CreateProtectedEphemeralSequential("/go/seq/p-", nil, everyone)
	must(err)
	check(strings.HasSuffix(path, "-p-0000000002"), path)
}

func refusals() {
	create("/go/e", "", 0)
	create("/go/e/c", "", 0)
	create("/go/eph", "", zk.FlagEphemeral)
	_, err := conn.Create("/go/e", nil, 0, everyone)
	refused(zk.ErrNodeExists, err)
	_, err = conn.Create("/go/none/x", nil, 0, everyone)
	refused(zk.ErrNoNode, err)
	_, _, err = conn.Get("/go/none")
	refused(zk.ErrNoNode, err)
	_, err = conn.Set("/go/e", nil, 7)
	refused(zk.ErrBadVersion, err)
	refused(zk.ErrBadVersion, conn.Delete("/go/e/c", 7))
	refused(zk.ErrNotEmpty, conn.Delete("/go/e", -1))
	_, err = conn.Create("/go/eph/x", nil, 0, everyone)
	refused(zk.ErrNoChildrenForEphemerals, err)
	_, err = conn.Create("/go/x", nil, 0, []zk.ACL{{Perms: zk.PermAll, Scheme: "nothing", ID: "x"}})
	refused(zk.ErrInvalidACL, err)
	must(conn.Delete("/go/eph", -1))
}

func watches() {
	there, _, exists, err := conn.ExistsW("/go/w")
	must(err)
	check(!there, "absent")
	create("/go/w", "", 0)
	equal("EventNodeCreated /go/w", next(exists))
	_, _, data, err := conn.GetW("/go/w")
	must(err)
	_, _, child, err := conn.ChildrenW("/go/w")
	must(err)
	_, err = conn.Set("/go/w", []byte("1"), -1)
	must(err)
	equal("EventNodeDataChanged /go/w", next(data))
	create("/go/w/c", "", 0)
	equal("EventNodeChildrenChanged /go/w", next(child))
	_, _, gone, err := conn.ExistsW("/go/w/c")
	must(err)
	must(conn.Delete("/go/w/c", -1))
	equal("EventNodeDeleted /go/w/c", next(gone))
}

func aclDigest() {
	alice, _ := open()
	bob, _ := open()
	must(alice.AddAuth("digest", []byte("alice:secret")))
	must(bob.AddAuth("digest", []byte("bob:other")))
	hers := zk.DigestACL(zk.PermAll, "alice", "secret")
	_, err := alice.Create("/go/alice", []byte("hers"), 0, zk.AuthACL(zk.PermAll))
	must(err)
	acl, stat, err := alice.GetACL("/go/alice")
	must(err)
	equal(hers, acl)
	equal(int32(0), stat.Aversion)
	_, _, err = bob.Get("/go/alice")
	refused(zk.ErrNoAuth, err)
	_, err = bob.Set("/go/alice", nil, -1)
	refused(zk.ErrNoAuth, err)
	_, err = bob.Create("/go/alice/c", nil, 0, everyone)
	refused(zk.ErrNoAuth, err)
	_, err = bob.SetACL("/go/alice", everyone, -1)
	refused(zk.ErrNoAuth, err)
	stat, err = alice.SetACL("/go/alice", append(hers, zk.WorldACL(zk.PermRead)...), 0)
	must(err)
	equal(int32(1), stat.Aversion)
	_, err = alice.SetACL("/go/alice", hers, 0)
	refused(zk.ErrBadVersion, err)
	data, _, err := bob.Get("/go/alice")
	must(err)
	equal("hers", string(data))
	alice.Close()
	bob.Close()
}

func multi() {
	results, err := conn.Multi(
		&zk.CreateRequest{Path: "/go/m", Data: []byte("m"), Acl: everyone},
		&zk.CreateRequest{Path: "/go/m/s-", Acl: everyone, Flags: zk.FlagSequence},
		&zk.SetDataRequest{Path: "/go/m", Data: []byte("mm"), Version: 0},
		&zk.CheckVersionRequest{Path: "/go/m", Version: 1},
		&zk.DeleteRequest{Path: "/go/m/s-0000000000", Version: 0},
	)
	must(err)
	equal(5, len(results))
	equal("/go/m/s-0000000000", results[1].String)
	equal(int32(1), results[2].Stat.Version)
	results, err = conn.Multi(
		&zk.CreateRequest{Path: "/go/m2", Acl: everyone},
		&zk.DeleteRequest{Path: "/go/none", Version: -1},
	)
	refused(zk.ErrNoNode, err)
	there, _, err := conn.Exists("/go/m2")
	must(err)
	check(!there, "nothing was applied")
}

func containerAndTTL() {
	_, err := conn.CreateContainer("/go/box", nil, zk.FlagContainer, everyone)
	must(err)
	create("/go/box/c", "", 0)
	_, err = conn.CreateTTL("/go/ttl", nil, zk.FlagTTL, everyone, 300*time.Millisecond)
	must(err)
	_, err = conn.CreateTTL("/go/long", nil, zk.FlagTTL, everyone, time.Hour)
	must(err)
	gone := func(path string) func() bool {
		return func() bool {
			there, _, err := conn.Exists(path)
			must(err)
			return !there
		}
	}
	eventually(gone("/go/ttl"), "TTL passed")
	check(!gone("/go/long")(), "a long TTL stays")
	check(!gone("/go/box")(), "a container with a child stays")
	must(conn.Delete("/go/box/c", -1))
	eventually(gone("/go/box"), "empty container removed")
}

func pipelined() {
	create("/go/many", "", 0)
	var group sync.WaitGroup
	errs := make(chan error, 300)
	for i := 0; i < 300; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			path := fmt.Sprintf("/go/many/%d", i)
			if _, err := conn.Create(path, []byte(path), 0, everyone); err != nil {
				errs <- err
				return
			}
			data, _, err := conn.Get(path)
			if err == nil && string(data) != path {
				err = fmt.Errorf("%s holds %q", path, data)
			}
			if err != nil {
				errs <- err
			}
		}(i)
	}
	group.Wait()
	close(errs)
	for err := range errs {
		must(err)
	}
	children, _, err := conn.Children("/go/many")
	must(err)
	equal(300, len(children))
}

func ephemerals() {
	owner, _ := open()
	_, err := owner.Create("/go/eph-1", nil, zk.FlagEphemeral, everyone)
	must(err)
	there, stat, gone, err := conn.ExistsW("/go/eph-1")
	must(err)
	check(there, "there")
	equal(owner.SessionID(), stat.EphemeralOwner)
	owner.Close()
	equal("EventNodeDeleted /go/eph-1", next(gone))
}

func locks() {
	other, _ := open()
	var group sync.WaitGroup
	var inside, turns int
	errs := make(chan error, 2)
	for _, c := range []*zk.Conn{conn, other} {
		group.Add(1)
		go func(c *zk.Conn) {
			defer group.Done()
			for i := 0; i < 5; i++ {
				lock := zk.NewLock(c, "/go/lock", everyone)
				if err := lock.Lock(); err != nil {
					errs <- err
					return
				}
				inside++
				if inside != 1 {
					errs <- errors.New("two holders")
				}
				turns++
				inside--
				if err := lock.Unlock(); err != nil {
					errs <- err
					return
				}
			}
		}(c)
	}
	group.Wait()
	close(errs)
	for err := range errs {
		must(err)
	}
	equal(10, turns)
	other.Close()
}

func words() {
	// FLWSrvr and FLWCons are left out: their patterns predate ZooKeeper 3.6 and reject Apache's own answers too.
	equal([]bool{true}, zk.FLWRuok([]string{server}, 10*time.Second))
}

func acrossRestart(how string) {
	base := "/go/restart-" + how
	create(base, "before", 0)
	eph := create(base+"/eph-", "", zk.FlagEphemeralSequential)
	session := conn.SessionID()
	_, before, data, err := conn.GetW(base)
	must(err)
	_, _, missing, err := conn.ExistsW(base + "/later")
	must(err)
	_, _, child, err := conn.ChildrenW(base)
	must(err)
	restart(how)
	var after *zk.Stat
	eventually(func() bool {
		var there bool
		there, after, err = conn.Exists(base)
		return err == nil && there
	}, "an answer")
	equal(before, after)
	equal(session, conn.SessionID())
	_, stat, err := conn.Exists(eph)
	must(err)
	equal(session, stat.EphemeralOwner)
	_, err = conn.Set(base, []byte("after"), 0)
	must(err)
	equal("EventNodeDataChanged "+base, next(data))
	create(base+"/later", "", 0)
	equal("EventNodeCreated "+base+"/later", next(missing))
	equal("EventNodeChildrenChanged "+base, next(child))
}
