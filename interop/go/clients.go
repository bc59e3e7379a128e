package main

import (
	"fmt"
	"math"
	"sync/atomic"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

// clients makes producers and consumers, each with an instance name of its own.
type clients struct {
	nameServer, prefix string
	instances          atomic.Int64
}

func (c *clients) topic(name string) string { return c.prefix + "_" + name }
func (c *clients) group(name string) string { return "g_" + c.prefix + "_" + name }

// instance is a name that no other client has, of this process or another: servers know a client by host and name.
func (c *clients) instance() string { return fmt.Sprintf("%s_i%d", c.prefix, c.instances.Add(1)) }

// producer is started, sends each message to the queue that it names, and never compresses.
func (c *clients) producer(name string, selector producer.QueueSelector) (rocketmq.Producer, error) {
	return c.producerIn(c.instance(), name, selector)
}

// producerIn shares the connections and heartbeats of that instance.
func (c *clients) producerIn(instance, name string, selector producer.QueueSelector) (rocketmq.Producer, error) {
	p, err := rocketmq.NewProducer(
		producer.WithNsResolver(primitive.NewPassthroughResolver([]string{c.nameServer})),
		producer.WithGroupName(c.group("p_"+name)),
		producer.WithInstanceName(instance),
		producer.WithQueueSelector(selector),
		producer.WithCompressMsgBodyOverHowmuch(math.MaxInt32),
		producer.WithRetry(2),
	)
	if err != nil {
		return nil, err
	}
	return p, p.Start()
}

// consumer begins at the first message; the caller subscribes and starts it.
func (c *clients) consumer(name string, options ...consumer.Option) (rocketmq.PushConsumer, error) {
	return rocketmq.NewPushConsumer(append([]consumer.Option{
		consumer.WithNsResolver(primitive.NewPassthroughResolver([]string{c.nameServer})),
		consumer.WithGroupName(c.group(name)),
		consumer.WithInstance(c.instance()),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
	}, options...)...)
}

// byNumber puts a message into the queue that its property "number" selects.
type byNumber struct{}

func (byNumber) Select(message *primitive.Message, queues []*primitive.MessageQueue, _ string) *primitive.MessageQueue {
	var number int
	fmt.Sscan(message.GetProperty("number"), &number)
	for _, queue := range queues {
		if queue.QueueId == number%len(queues) {
			return queue
		}
	}
	return queues[0]
}
