// Scenarios on the official Go client (rocketmq-client-go/v2). Arguments: name server address, prefix of topics and groups, count of messages of
// the counting scenario; and the one part to run, if not all: "request". Or, in place of the count, the name of scenarios that need a server of
// their own: "transactions". One line a scenario: "PASS name", "FAIL name reason" or "SKIP name reason".
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2/rlog"
)

// skip is the error of a scenario that this client cannot express.
type skip string

func (s skip) Error() string { return string(s) }

var (
	printing sync.Mutex
	failed   bool
)

func run(name string, scenario func() error) {
	begin := time.Now()
	err := scenario()
	printing.Lock()
	defer printing.Unlock()
	switch err := err.(type) {
	case nil:
		fmt.Println("PASS", name)
	case skip:
		fmt.Println("SKIP", name, string(err))
	default:
		failed = true
		fmt.Println("FAIL", name, strings.Join(strings.Fields(err.Error()), " "))
	}
	fmt.Fprintln(os.Stderr, name, "took", time.Since(begin))
}

// await waits until the condition holds, at most the given time.
func await(limit time.Duration, what string, condition func() bool) error {
	deadline := time.Now().Add(limit)
	for !condition() {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s did not happen within %s", what, limit)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

func main() {
	rlog.SetLogLevel("error")
	nameServer, prefix := os.Args[1], os.Args[2]
	clients := &clients{nameServer: nameServer, prefix: prefix}
	if os.Args[3] == "transactions" {
		transact(clients)
		run("traced", func() error { return traced(clients) })
	} else if len(os.Args) > 4 {
		only(os.Args[4], clients)
	} else {
		everything(clients)
	}
	if failed {
		os.Exit(1)
	}
}

func everything(clients *clients) {
	count, err := strconv.Atoi(os.Args[3])
	if err != nil {
		panic(err)
	}
	var together sync.WaitGroup
	for _, scenarios := range []func(){
		func() { sending(clients) },
		func() { run("push-concurrent", func() error { return rebalance(clients, "concurrent", false) }) },
		func() { run("push-orderly", func() error { return rebalance(clients, "orderly", true) }) },
		func() { run("broadcast", func() error { return broadcast(clients) }) },
		func() { run("pull", func() error { return pull(clients) }) },
		func() { run("delayed", func() error { return delay(clients) }) },
		func() { run("retried", func() error { return retry(clients) }) },
		func() { run("selected", func() error { return selected(clients) }) },
		func() { run("lite-pull", func() error { return skip("the client has no lite pull consumer") }) },
	} {
		together.Add(1)
		go func() {
			defer together.Done()
			scenarios()
		}()
	}
	together.Wait()
	run("count", func() error { return counting(clients, count) })
}

func only(part string, clients *clients) {
	if part != "request" {
		panic(part)
	}
	run(part, func() error { return request(clients) })
}
