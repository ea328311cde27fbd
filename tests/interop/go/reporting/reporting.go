// Package reporting reads a client program's orders and prints what it saw.
package reporting

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

// Seen is what a scenario saw; it is printed as one line of JSON.
type Seen map[string]any

// Orders are the arguments of a client program.
type Orders struct {
	Endpoint          string
	Scenarios         []string
	Sequential        int
	Concurrent        int
	ReadBackBytes     int
	MessageLimitBytes int
}

// ParseOrders reads the command line: endpoint, scenarios with commas, and four numbers.
func ParseOrders() Orders {
	if len(os.Args) != 7 {
		fmt.Fprintln(os.Stderr, "wrong number of arguments")
		os.Exit(2)
	}
	numbers := [4]int{}
	for index := range numbers {
		number, err := strconv.Atoi(os.Args[3+index])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		numbers[index] = number
	}
	return Orders{os.Args[1], strings.Split(os.Args[2], ","), numbers[0], numbers[1], numbers[2], numbers[3]}
}

// Check panics with an error; Run reports it.
func Check(err error) {
	if err != nil {
		panic(err)
	}
}

// CodeName returns the name of a code as gRPC's specification spells it.
func CodeName(code codes.Code) string {
	names := map[codes.Code]string{
		codes.OK: "OK", codes.Canceled: "CANCELLED", codes.DeadlineExceeded: "DEADLINE_EXCEEDED",
		codes.InvalidArgument: "INVALID_ARGUMENT", codes.ResourceExhausted: "RESOURCE_EXHAUSTED",
		codes.Unimplemented: "UNIMPLEMENTED",
	}
	if name, known := names[code]; known {
		return name
	}
	return code.String()
}

// Run runs the ordered scenarios one after the other, each within the timeout.
func (o Orders) Run(scenarios map[string]func(context.Context) Seen, timeout time.Duration) {
	for _, name := range o.Scenarios {
		seen := one(scenarios[name], timeout)
		seen["scenario"] = name
		Check(json.NewEncoder(os.Stdout).Encode(seen))
	}
}

func one(scenario func(context.Context) Seen, timeout time.Duration) (seen Seen) {
	defer func() {
		if reason := recover(); reason != nil {
			seen = Seen{"error": fmt.Sprint(reason)}
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return scenario(ctx)
}
