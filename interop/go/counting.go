package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

const (
	queues    = 8
	batchSize = 50
)

// tally checks every message as it comes: in order per queue and sender, none lost, none twice.
type tally struct {
	mutex      sync.Mutex
	seen       map[int]bool
	nextOffset map[int]int64
	last       map[string]int
	received   int
	problem    string
}

func (t *tally) take(message *primitive.MessageExt) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	sender, text, _ := strings.Cut(string(message.Body), "-")
	number, _ := strconv.Atoi(text)
	queue := message.Queue.QueueId
	lane := fmt.Sprintf("%d/%s", queue, sender)
	if expected, present := t.nextOffset[queue]; present && expected != message.QueueOffset {
		t.problem = fmt.Sprintf("queue %d: offset %d where %d was due", queue, message.QueueOffset, expected)
	} else if last, present := t.last[lane]; present && last >= number {
		t.problem = fmt.Sprintf("queue %d: number %d after %d", queue, number, last)
	} else if t.seen[number] {
		t.problem = fmt.Sprintf("number %d twice", number)
	}
	t.nextOffset[queue] = message.QueueOffset + 1
	t.last[lane] = number
	t.seen[number] = true
	t.received++
}

func counting(c *clients, count int) error {
	topic := c.topic("count")
	t := &tally{seen: map[int]bool{}, nextOffset: map[int]int64{}, last: map[string]int{}}
	push, err := c.consumer("count", consumer.WithConsumerOrder(true), consumer.WithConsumeMessageBatchMaxSize(32))
	if err != nil {
		return err
	}
	if err := push.Subscribe(topic, consumer.MessageSelector{}, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, message := range messages {
			t.take(message)
		}
		return consumer.ConsumeSuccess, nil
	}); err != nil {
		return err
	}
	if err := push.Start(); err != nil {
		return err
	}
	defer push.Shutdown()
	p, err := c.producer("count", byNumber{})
	if err != nil {
		return err
	}
	defer p.Shutdown()
	errors := make(chan error, queues)
	for sender := 0; sender < queues; sender++ {
		go func() { errors <- send(p, topic, sender, count) }()
	}
	for sender := 0; sender < queues; sender++ {
		if err := <-errors; err != nil {
			return err
		}
	}
	if err := await(120*time.Second, fmt.Sprintf("%d messages", count), func() bool {
		t.mutex.Lock()
		defer t.mutex.Unlock()
		return t.received >= count || t.problem != ""
	}); err != nil {
		return fmt.Errorf("%w: %d came", err, t.received)
	}
	if t.problem != "" || len(t.seen) != count || t.received != count {
		return fmt.Errorf("%s; received %d, distinct %d", t.problem, t.received, len(t.seen))
	}
	return nil
}

type sendSync interface {
	SendSync(ctx context.Context, messages ...*primitive.Message) (*primitive.SendResult, error)
}

// send puts the numbers sender, sender + queues, … into one queue: single sends first, then batches.
func send(p sendSync, topic string, sender, count int) error {
	var batch []*primitive.Message
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		_, err := p.SendSync(context.Background(), batch...)
		batch = nil
		return err
	}
	for number := sender; number < count; number += queues {
		message := primitive.NewMessage(topic, []byte(fmt.Sprintf("%d-%d", sender, number)))
		message.WithProperty("number", strconv.Itoa(sender))
		batch = append(batch, message)
		if number < count/10 || len(batch) == batchSize {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}
