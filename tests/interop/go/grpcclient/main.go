// A client of google.golang.org/grpc: one connection, the scenarios of tests/interop/scenarios.py.
package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"dqlite-py/interop/reporting"
)

const (
	timeout = 60 * time.Second
	margin  = 30 // more than tags and lengths take
)

type client struct {
	connection *grpc.ClientConn
	kv         pb.KVClient
	watches    pb.WatchClient
	orders     reporting.Orders
}

func main() {
	orders := reporting.ParseOrders()
	connection, err := grpc.NewClient("passthrough:///"+orders.Endpoint,
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	reporting.Check(err)
	defer connection.Close()
	c := &client{connection, pb.NewKVClient(connection), pb.NewWatchClient(connection), orders}
	orders.Run(map[string]func(context.Context) reporting.Seen{
		"unary":         c.unary,
		"server_stream": c.serverStream,
		"bidi":          c.bidi,
		"cancel":        c.cancel,
		"deadline":      c.deadline,
		"large":         c.large,
		"sequential":    c.sequential,
		"concurrent":    c.concurrent,
	}, timeout)
}

// refusal names the status of an error as the other clients do.
func refusal(err error) string {
	if err == nil || errors.Is(err, io.EOF) {
		return "OK"
	}
	s := status.Convert(err)
	return reporting.CodeName(s.Code()) + " " + s.Message()
}

func word(text string) string { return strings.SplitN(text, " ", 2)[0] }

func (c *client) put(ctx context.Context, key, value string) {
	_, err := c.kv.Put(ctx, &pb.PutRequest{Key: []byte(key), Value: []byte(value)})
	reporting.Check(err)
}

func (c *client) get(ctx context.Context, key string) string {
	found, err := c.kv.Range(ctx, &pb.RangeRequest{Key: []byte(key)})
	reporting.Check(err)
	return string(found.Kvs[0].Value)
}

func (c *client) stillHere(ctx context.Context) string {
	c.put(ctx, "after", "still here")
	return c.get(ctx, "after")
}

func (c *client) watch(ctx context.Context, key string, ids ...int64) pb.Watch_WatchClient {
	stream, err := c.watches.Watch(ctx)
	reporting.Check(err)
	for _, id := range ids {
		reporting.Check(stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
			CreateRequest: &pb.WatchCreateRequest{Key: []byte(key), WatchId: id}}}))
	}
	return stream
}

func receive(stream pb.Watch_WatchClient) *pb.WatchResponse {
	answer, err := stream.Recv()
	reporting.Check(err)
	return answer
}

func (c *client) unary(ctx context.Context) reporting.Seen {
	c.put(ctx, "unary", "unary value")
	_, refused := c.kv.Put(ctx, &pb.PutRequest{Value: []byte("no key")})
	unknown := c.connection.Invoke(ctx, "/etcdserverpb.KV/Nonsense", &pb.PutRequest{}, &pb.PutResponse{})
	return reporting.Seen{
		"value":          c.get(ctx, "unary"),
		"refused":        refusal(refused),
		"unknown_method": word(refusal(unknown)),
	}
}

func (c *client) serverStream(ctx context.Context) reporting.Seen {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := health.NewHealthClient(c.connection).Watch(ctx, &health.HealthCheckRequest{})
	reporting.Check(err)
	first, err := stream.Recv()
	reporting.Check(err)
	cancel()
	_, err = stream.Recv()
	return reporting.Seen{"status": first.Status.String(), "end": word(refusal(err))}
}

func (c *client) bidi(ctx context.Context) reporting.Seen {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	stream := c.watch(watching, "bidi", 1, 2)
	created, events, canceled := 0, 0, 0
	for range 2 {
		if receive(stream).Created {
			created++
		}
	}
	c.put(ctx, "bidi", "seen")
	for range 2 {
		events += len(receive(stream).Events)
	}
	reporting.Check(stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{
		CancelRequest: &pb.WatchCancelRequest{WatchId: 1}}}))
	if receive(stream).Canceled {
		canceled++
	}
	keeper, err := pb.NewLeaseClient(c.connection).LeaseKeepAlive(ctx)
	reporting.Check(err)
	for range 2 {
		reporting.Check(keeper.Send(&pb.LeaseKeepAliveRequest{ID: 404}))
	}
	reporting.Check(keeper.CloseSend())
	renewals := []int64{}
	answer, err := keeper.Recv()
	for err == nil {
		renewals = append(renewals, answer.TTL)
		answer, err = keeper.Recv()
	}
	return reporting.Seen{"created": created, "events": events, "canceled": canceled,
		"renewals": renewals, "end": word(refusal(err))}
}

func (c *client) cancel(ctx context.Context) reporting.Seen {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	stream := c.watch(watching, "cancel", 0)
	receive(stream)
	stop()
	_, err := stream.Recv()
	return reporting.Seen{"end": word(refusal(err)), "after": c.stillHere(ctx)}
}

func (c *client) deadline(ctx context.Context) reporting.Seen {
	watching, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	defer stop()
	stream := c.watch(watching, "deadline", 0)
	receive(stream)
	_, err := stream.Recv()
	return reporting.Seen{"end": word(refusal(err)), "after": c.stillHere(ctx)}
}

func sizedPut(size int) *pb.PutRequest {
	put := &pb.PutRequest{Key: []byte("large"), Value: make([]byte, size-margin)}
	put.Value = make([]byte, 2*size-margin-proto.Size(put))
	return put
}

func sizedRange(size int) *pb.RangeRequest {
	request := &pb.RangeRequest{Key: make([]byte, size-margin)}
	request.Key = []byte(strings.Repeat("x", 2*size-margin-proto.Size(request)))
	return request
}

func (c *client) large(ctx context.Context) reporting.Seen {
	value := strings.Repeat("v", c.orders.ReadBackBytes)
	c.put(ctx, "large/1", value)
	c.put(ctx, "large/2", value)
	both, err := c.kv.Range(ctx, &pb.RangeRequest{Key: []byte("large/"), RangeEnd: []byte("large0")})
	reporting.Check(err)
	total := 0
	for _, kv := range both.Kvs {
		total += len(kv.Value)
	}
	atLimit, err := c.kv.Range(ctx, sizedRange(c.orders.MessageLimitBytes))
	reporting.Check(err)
	_, putAtLimit := c.kv.Put(ctx, sizedPut(c.orders.MessageLimitBytes))
	_, overLimit := c.kv.Put(ctx, sizedPut(c.orders.MessageLimitBytes+1))
	return reporting.Seen{
		"read_back":    len(c.get(ctx, "large/1")),
		"both":         total,
		"at_limit":     atLimit.Count,
		"put_at_limit": refusal(putAtLimit),
		"over_limit":   word(refusal(overLimit)),
		"after":        c.stillHere(ctx),
	}
}

func (c *client) sequential(ctx context.Context) reporting.Seen {
	answered := 0
	for range c.orders.Sequential {
		found, err := c.kv.Range(ctx, &pb.RangeRequest{Key: []byte("unary"), Serializable: true})
		reporting.Check(err)
		if found.Header.Revision > 0 {
			answered++
		}
	}
	return reporting.Seen{"answered": answered}
}

func (c *client) concurrent(ctx context.Context) reporting.Seen {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	streams := []pb.Watch_WatchClient{}
	for range c.orders.Concurrent {
		streams = append(streams, c.watch(ctx, "concurrent", 0))
	}
	created, events := 0, 0
	for _, stream := range streams {
		if receive(stream).Created {
			created++
		}
	}
	c.put(ctx, "concurrent", "seen")
	for _, stream := range streams {
		events += len(receive(stream).Events)
	}
	return reporting.Seen{"created": created, "events": events}
}
