package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

const (
	offered = 120
	// The client puts it where its configuration names no other.
	traceTopic = "RMQ_SYS_TRACE_TOPIC"
)

// selected: a consumer that names an expression gets what it takes and nothing else.
func selected(c *clients) error {
	p, err := c.producer("selected", byNumber{})
	if err != nil {
		return err
	}
	defer p.Shutdown()
	topic := c.topic("selected")
	want := 0
	for price := 0; price < offered; price++ {
		color := []string{"red", "blue"}[price%2]
		message := primitive.NewMessage(topic, []byte(strconv.Itoa(price)))
		message.WithProperties(map[string]string{"price": strconv.Itoa(price), "color": color, "number": strconv.Itoa(price)})
		if _, err := p.SendSync(context.Background(), message); err != nil {
			return err
		}
		if price >= 10 && price <= 80 && color == "red" {
			want++
		}
	}
	came := &notes{}
	push, err := c.consumer("selected")
	if err != nil {
		return err
	}
	selector := consumer.MessageSelector{Type: consumer.SQL92, Expression: "price BETWEEN 10 AND 80 AND color = 'red' OR price = 119"}
	if err := push.Subscribe(topic, selector, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, message := range messages {
			came.add(string(message.Body))
		}
		return consumer.ConsumeSuccess, nil
	}); err != nil {
		return err
	}
	if err := push.Start(); err != nil {
		return err
	}
	defer push.Shutdown()
	// With the last message of all, so that nothing else can come behind it.
	if err := await(60*time.Second, "every selected message", func() bool { return len(came.sorted()) > want }); err != nil {
		return err
	}
	for _, text := range came.sorted() {
		price, err := strconv.Atoi(text)
		if err != nil || price != offered-1 && (price < 10 || price > 80 || price%2 != 0) {
			return fmt.Errorf("%s is not selected", text)
		}
	}
	if texts := came.sorted(); len(texts) != want+1 {
		return fmt.Errorf("came %v", texts)
	}
	return nil
}

// traced: producer and consumer note what they send and consume, in a topic of the broker.
func traced(c *clients) error {
	topic := c.topic("transactions")
	config := func() *primitive.TraceConfig {
		return &primitive.TraceConfig{GroupName: c.group("tracer"), Access: primitive.Local, Resolver: primitive.NewPassthroughResolver([]string{c.nameServer})}
	}
	found := &notedTraces{}
	reader, err := c.consumer("trace_reader")
	if err == nil {
		err = reader.Subscribe(traceTopic, consumer.MessageSelector{}, found.read)
	}
	if err == nil {
		err = reader.Start()
	}
	if err != nil {
		return err
	}
	defer reader.Shutdown()
	push, err := c.consumer("traced", consumer.WithTrace(config()))
	if err == nil {
		err = push.Subscribe(topic, consumer.MessageSelector{Type: consumer.TAG, Expression: "traced"}, func(context.Context, ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			return consumer.ConsumeSuccess, nil
		})
	}
	if err == nil {
		err = push.Start()
	}
	if err != nil {
		return err
	}
	defer push.Shutdown()
	p, err := rocketmq.NewProducer(
		producer.WithNsResolver(primitive.NewPassthroughResolver([]string{c.nameServer})),
		producer.WithGroupName(c.group("p_traced")),
		producer.WithInstanceName(c.instance()),
		producer.WithTrace(config()),
	)
	if err == nil {
		err = p.Start()
	}
	if err != nil {
		return err
	}
	defer p.Shutdown()
	message := primitive.NewMessage(topic, []byte("traced"))
	message.WithTag("traced")
	sent, err := p.SendSync(context.Background(), message)
	if err != nil {
		return err
	}
	return await(60*time.Second, "notes of sending and consuming", func() bool {
		return found.has("Pub", sent.MsgID) && found.has("SubBefore", sent.MsgID) && found.has("SubAfter", sent.MsgID)
	})
}

// notedTraces are the bodies of trace messages: notes that begin with their kind, one behind the other.
type notedTraces struct {
	mutex sync.Mutex
	notes []string
}

func (t *notedTraces) read(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for _, message := range messages {
		t.notes = append(t.notes, strings.Split(string(message.Body), "\x02")...)
	}
	return consumer.ConsumeSuccess, nil
}

func (t *notedTraces) has(kind, id string) bool {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	for _, note := range t.notes {
		if strings.HasPrefix(note, kind+"\x01") && strings.Contains(note, id) {
			return true
		}
	}
	return false
}
