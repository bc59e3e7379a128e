package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

const requested = 20

// request: messages are answered by message; one that nobody answers ends in time.
func request(c *clients) error {
	topic := c.topic("requested")
	// This client asks a name server whether the topic exists, and sends no heartbeat when it does. No server can pass a reply to a client that it
	// has not heard of, so that a producer alone would ask in vain for half a minute; the heartbeat of the consumer beside it speaks for both.
	shared := c.instance()
	asker, err := c.producerIn(shared, "asker", byNumber{})
	if err != nil {
		return err
	}
	defer asker.Shutdown()
	replier, err := c.producer("replier", byNumber{})
	if err != nil {
		return err
	}
	defer replier.Shutdown()
	failures := &notes{}
	var seen atomic.Bool
	push, err := c.consumer("requested", consumer.WithInstance(shared))
	if err != nil {
		return err
	}
	if err := push.Subscribe(topic, consumer.MessageSelector{}, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, message := range messages {
			seen.Store(true)
			if message.GetProperty("CORRELATION_ID") == "" {
				continue
			}
			if _, err := replier.SendSync(context.Background(), replyTo(message)); err != nil {
				failures.add(err.Error())
			}
		}
		return consumer.ConsumeSuccess, nil
	}); err != nil {
		return err
	}
	if err := push.Start(); err != nil {
		return err
	}
	defer push.Shutdown()
	// The first request would else wait for the consumer's first share of the queues.
	if _, err := replier.SendSync(context.Background(), primitive.NewMessage(topic, []byte("plain"))); err != nil {
		return err
	}
	if err := await(60*time.Second, "the first message", seen.Load); err != nil {
		return err
	}
	for number := 0; number < requested; number++ {
		question := fmt.Sprint("question ", number)
		reply, err := asker.Request(context.Background(), 20*time.Second, primitive.NewMessage(topic, []byte(question)))
		if err != nil {
			return fmt.Errorf("%s: %w", question, err)
		}
		if string(reply.Body) != question+"!" {
			return fmt.Errorf("reply %q to %q", reply.Body, question)
		}
	}
	if failed := failures.sorted(); len(failed) > 0 {
		return fmt.Errorf("replies failed: %v", failed)
	}
	unanswered := primitive.NewMessage(c.topic("send"), []byte("unanswered"))
	if _, err := asker.Request(context.Background(), 1500*time.Millisecond, unanswered); err == nil {
		return fmt.Errorf("a request that nobody answers got a reply")
	}
	return nil
}

// replyTo is the reply to a message: in the topic of its cluster, with what leads it back.
func replyTo(request *primitive.MessageExt) *primitive.Message {
	reply := primitive.NewMessage(request.GetProperty("CLUSTER")+"_REPLY_TOPIC", append(append([]byte(nil), request.Body...), '!'))
	reply.WithProperty("MSG_TYPE", "reply")
	for _, name := range []string{"CORRELATION_ID", "REPLY_TO_CLIENT", "TTL"} {
		reply.WithProperty(name, request.GetProperty(name))
	}
	return reply
}
