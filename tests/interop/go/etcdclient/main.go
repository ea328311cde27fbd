// etcd's own Go client, with the scenarios of tests/interop/scenarios.py that it can do.
package main

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"dqlite-py/interop/reporting"
)

const timeout = 60 * time.Second

type client struct {
	etcd   *clientv3.Client
	orders reporting.Orders
}

func main() {
	orders := reporting.ParseOrders()
	etcd, err := clientv3.New(clientv3.Config{
		Endpoints:          []string{orders.Endpoint},
		DialTimeout:        20 * time.Second,
		MaxCallSendMsgSize: 2 * orders.MessageLimitBytes,
	})
	reporting.Check(err)
	defer etcd.Close()
	c := &client{etcd, orders}
	orders.Run(map[string]func(context.Context) reporting.Seen{
		"unary":      c.unary,
		"bidi":       c.bidi,
		"cancel":     c.cancel,
		"deadline":   c.deadline,
		"large":      c.large,
		"sequential": c.sequential,
		"concurrent": c.concurrent,
	}, timeout)
}

// refusal names the status of an error as the other clients do.
func refusal(err error) string {
	if err == nil {
		return "OK"
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "DEADLINE_EXCEEDED"
	}
	if errors.Is(err, context.Canceled) {
		return "CANCELLED"
	}
	var known rpctypes.EtcdError
	if errors.As(err, &known) {
		return reporting.CodeName(known.Code()) + " " + known.Error()
	}
	s := status.Convert(err)
	return reporting.CodeName(s.Code()) + " " + s.Message()
}

func word(text string) string { return strings.SplitN(text, " ", 2)[0] }

func (c *client) put(ctx context.Context, key, value string) {
	_, err := c.etcd.Put(ctx, key, value)
	reporting.Check(err)
}

func (c *client) get(ctx context.Context, key string) string {
	found, err := c.etcd.Get(ctx, key)
	reporting.Check(err)
	return string(found.Kvs[0].Value)
}

func (c *client) stillHere(ctx context.Context) string {
	c.put(ctx, "after", "still here")
	return c.get(ctx, "after")
}

func (c *client) unary(ctx context.Context) reporting.Seen {
	c.put(ctx, "unary", "unary value")
	_, refused := c.etcd.Put(ctx, "", "no key")
	moved, err := c.etcd.Txn(ctx).
		If(clientv3.Compare(clientv3.Value("unary"), "=", "unary value")).
		Then(clientv3.OpPut("unary", "second")).
		Else(clientv3.OpGet("unary")).Commit()
	reporting.Check(err)
	return reporting.Seen{"value": c.get(ctx, "unary"), "refused": refusal(refused), "moved": moved.Succeeded}
}

// bidi: two watchers, one given up; a lease kept alive, and revoked.
func (c *client) bidi(ctx context.Context) reporting.Seen {
	kept, giveUp := context.WithCancel(ctx)
	defer giveUp()
	first := c.etcd.Watch(kept, "bidi", clientv3.WithCreatedNotify())
	second := c.etcd.Watch(ctx, "bidi", clientv3.WithCreatedNotify())
	created, events := 0, 0
	for _, watch := range []clientv3.WatchChan{first, second} {
		if answer := <-watch; answer.Created {
			created++
		}
	}
	c.put(ctx, "bidi", "seen")
	for _, watch := range []clientv3.WatchChan{first, second} {
		events += len((<-watch).Events)
	}
	giveUp()
	for range first {
	}
	c.put(ctx, "bidi", "again")
	events += len((<-second).Events)
	lease, err := c.etcd.Grant(ctx, 60)
	reporting.Check(err)
	renewed, err := c.etcd.KeepAliveOnce(ctx, lease.ID)
	reporting.Check(err)
	_, err = c.etcd.Revoke(ctx, lease.ID)
	reporting.Check(err)
	_, err = c.etcd.KeepAliveOnce(ctx, lease.ID)
	return reporting.Seen{"created": created, "events": events, "ttl": renewed.TTL, "gone": err != nil}
}

func (c *client) cancel(ctx context.Context) reporting.Seen {
	watching, giveUp := context.WithCancel(ctx)
	watch := c.etcd.Watch(watching, "cancel", clientv3.WithCreatedNotify())
	<-watch
	giveUp()
	end := "open"
	if _, open := <-watch; !open {
		end = refusal(watching.Err())
	}
	return reporting.Seen{"end": end, "after": c.stillHere(ctx)}
}

func (c *client) deadline(ctx context.Context) reporting.Seen {
	watching, giveUp := context.WithTimeout(ctx, 300*time.Millisecond)
	defer giveUp()
	watch := c.etcd.Watch(watching, "deadline", clientv3.WithCreatedNotify())
	<-watch
	for range watch {
	}
	return reporting.Seen{"end": refusal(watching.Err()), "after": c.stillHere(ctx)}
}

func (c *client) large(ctx context.Context) reporting.Seen {
	value := strings.Repeat("v", c.orders.ReadBackBytes)
	c.put(ctx, "large/1", value)
	c.put(ctx, "large/2", value)
	both, err := c.etcd.Get(ctx, "large/", clientv3.WithPrefix())
	reporting.Check(err)
	total := 0
	for _, kv := range both.Kvs {
		total += len(kv.Value)
	}
	_, put := c.etcd.Put(ctx, "large", strings.Repeat("v", c.orders.MessageLimitBytes-100))
	_, over := c.etcd.Put(ctx, "large", strings.Repeat("v", c.orders.MessageLimitBytes))
	return reporting.Seen{
		"read_back":    len(c.get(ctx, "large/1")),
		"both":         total,
		"put_at_limit": refusal(put),
		"over_limit":   word(refusal(over)),
		"after":        c.stillHere(ctx),
	}
}

func (c *client) sequential(ctx context.Context) reporting.Seen {
	answered := 0
	for range c.orders.Sequential {
		found, err := c.etcd.Get(ctx, "unary", clientv3.WithSerializable())
		reporting.Check(err)
		if found.Header.Revision > 0 {
			answered++
		}
	}
	return reporting.Seen{"answered": answered}
}

// concurrent: the client gives each set of metadata a stream of its own.
func (c *client) concurrent(ctx context.Context) reporting.Seen {
	watches := []clientv3.WatchChan{}
	for number := range c.orders.Concurrent {
		own := metadata.AppendToOutgoingContext(ctx, "stream", strconv.Itoa(number))
		watches = append(watches, c.etcd.Watch(own, "concurrent", clientv3.WithCreatedNotify()))
	}
	created, events := 0, 0
	for _, watch := range watches {
		if answer := <-watch; answer.Created {
			created++
		}
	}
	c.put(ctx, "concurrent", "seen")
	for _, watch := range watches {
		events += len((<-watch).Events)
	}
	return reporting.Seen{"created": created, "events": events}
}
