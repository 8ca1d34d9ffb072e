package soak_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// A node of a cluster is this program again, as brokers are; its description is in its environment.
const clusterNode = "SOAK_NODE"

type node struct {
	Name, Addr, Route, Dir string
	Routes                 []string // of all

	p *process
}

func split(addr string) (string, int) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		panic(err) // of our own making
	}
	n, _ := strconv.Atoi(port)
	return host, n
}

func beNode(description string) int {
	var n node
	if err := json.Unmarshal([]byte(description), &n); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	o := &server.Options{ServerName: n.Name, JetStream: true, StoreDir: n.Dir, NoSigs: true, SyncAlways: true}
	o.Host, o.Port = split(n.Addr)
	o.Cluster.Name = "drill"
	o.Cluster.Host, o.Cluster.Port = split(n.Route)
	for _, r := range n.Routes {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: r})
	}
	s, err := server.NewServer(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s.ConfigureLogger()
	s.Start()
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	<-ended
	s.Shutdown()
	return 0
}

func (n *node) start() (err error) {
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), clusterNode+"="+string(b))
	n.p, err = launch(cmd, n.Dir+".log")
	return err
}

// newDrill is a world of its own with one company; what it stands on is made by the drill.
func newDrill(t *testing.T) *world {
	w := &world{T: t, seed: uint64(time.Now().UnixNano()) % 1_000_000, short: true, tally: newTally(), accepts: map[string]int{}}
	w.makeDir()
	return w
}

// open starts the parts, two movers among them, and the company.
func (w *world) open() {
	for _, p := range [][2]string{{"api", "api"}, {"mover-a", "reassigner,relay"}, {"mover-b", "reassigner,relay"}, {"notifier", "notifier"}} {
		w.startPart(p[0], p[1])
	}
	w.awaitReady()
	w.tenants = append(w.tenants, w.newTenant("t1"))
}

// load works until stop is called, which waits for what is under way.
func (w *world) load() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	t := w.tenants[0]
	for i, choices := range [][]choice{t.upstream(), t.staff()} {
		go func() {
			t.drive(ctx, uint64(100+i), 25*time.Millisecond, choices)
			done <- struct{}{}
		}()
	}
	return func() {
		cancel()
		<-done
		<-done
	}
}

// handOver is how long a role change takes now, from the request to the end of its operation.
func (w *world) handOver(n uint64) time.Duration {
	w.Helper()
	t := w.tenants[0]
	r := rand.New(rand.NewPCG(w.seed, n))
	began := time.Now()
	for {
		t.mu.Lock()
		owner := t.here[r.IntN(len(t.here))]
		t.mu.Unlock()
		a := t.json(r, "PUT", "/v1/accounts/"+anyAccount(r)+"/roles/"+anyOf(r, roles), body{"owner_id": owner})
		t.acceptedAs(a)
		if a.operation() == "" {
			continue // it was theirs already
		}
		await(w, time.Minute, "handed over", func() (bool, string) {
			o := t.json(r, "GET", "/v1/operations/"+a.operation(), nil)
			return o.body["state"] == "done", o.raw
		})
		return time.Since(began)
	}
}

// publishing publishes an event every so often straight to the broker, and returns how to stop and the longest pause between two that it took.
func (w *world) publishing() (stop func() time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	longest := make(chan time.Duration)
	t := w.tenants[0]
	go func() {
		r := rand.New(rand.NewPCG(w.seed, 3000))
		var most time.Duration
		last := time.Now()
		for wait(ctx, 10*time.Millisecond) {
			t.overNATS(r)
			most = max(most, time.Since(last))
			last = time.Now()
		}
		longest <- most
	}()
	return func() time.Duration {
		cancel()
		return <-longest
	}
}

// A broker of three loses the leader of its streams under load, by SIGKILL: nothing is lost, nothing happens twice. The
// length of the pause is logged; most of it is the election, which NATS gives four to nine seconds. With DRILLS=long, as in
// make drills, the leader of the other stream is killed, too.
func TestDrillBrokerClusterLosesItsLeader(t *testing.T) {
	t.Parallel()
	w := newDrill(t)
	streams := []string{event.StreamRoleChanges, event.StreamTaskReassignments}
	nodes := make([]*node, 3)
	var routes, urls []string
	for i := range nodes {
		nodes[i] = &node{Name: fmt.Sprintf("n%d", i+1), Addr: freeAddr(t), Route: freeAddr(t), Dir: filepath.Join(w.dir, fmt.Sprintf("n%d", i+1))}
		routes, urls = append(routes, nodes[i].Route), append(urls, "nats://"+nodes[i].Addr)
	}
	for _, n := range nodes {
		n.Routes = routes
		if err := n.start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.p.end(syscall.SIGKILL, time.Minute) })
	}
	w.connect(testkit.EmptyDatabaseURL(t), strings.Join(urls, ","), "HANDOVER_NATS_REPLICAS=3")
	w.open()
	stop, stopPublishing := w.load(), w.publishing()
	t.Logf("handed over in %v, with all three", w.handOver(1))
	killed := streams
	if os.Getenv("DRILLS") != "long" {
		killed = streams[:1]
	}
	for i, stream := range killed {
		leader := w.replicated(stream)
		for _, n := range nodes {
			if n.Name != leader {
				continue
			}
			began := time.Now()
			n.p.end(syscall.SIGKILL, time.Minute)
			took := w.handOver(uint64(2 + i))
			t.Logf("%s, leader of %s, was killed; a role change asked for at once was handed over after %v", leader, stream, took)
			next := w.leader(stream)
			t.Logf("%s leads now, %v later", next, time.Since(began).Round(time.Millisecond))
			if next == leader || next == "" {
				t.Errorf("%s was the leader and is dead, and %q leads now", leader, next)
			}
			if err := n.start(); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("longest pause between two publications: %v", stopPublishing().Round(time.Millisecond))
	stop()
	for _, stream := range streams {
		w.replicated(stream)
	}
	w.rest()
	t.Logf("%s", w.judge(0))
}

func (w *world) leader(stream string) (leader string) {
	w.Helper()
	await(w, 30*time.Second, "a leader of "+stream, func() (bool, string) {
		ctx, cancel := context.WithTimeout(w.Context(), 2*time.Second)
		defer cancel()
		s, err := w.js.Stream(ctx, stream)
		if err != nil {
			return false, err.Error()
		}
		leader = s.CachedInfo().Cluster.Leader
		return leader != "", ""
	})
	return leader
}

// replicated waits until both followers have all that the leader has, and returns the leader.
func (w *world) replicated(stream string) (leader string) {
	w.Helper()
	await(w, time.Minute, stream+" is on all three", func() (bool, string) {
		ctx, cancel := context.WithTimeout(w.Context(), 2*time.Second)
		defer cancel()
		s, err := w.js.Stream(ctx, stream)
		if err != nil {
			return false, err.Error()
		}
		cluster := s.CachedInfo().Cluster
		leader = cluster.Leader
		current := 0
		for _, r := range cluster.Replicas {
			if r.Current && !r.Offline {
				current++
			}
		}
		return leader != "" && current == 2, fmt.Sprintf("led by %q, with %d current followers", leader, current)
	})
	return leader
}
