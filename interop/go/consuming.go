package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

const wave = 200

// seen is what one instance has received: message numbers, and the last number of each queue.
type seen struct {
	mutex       sync.Mutex
	numbers     map[int]bool
	lastOfQueue map[int]int
	disorder    string
}

func newSeen() *seen { return &seen{numbers: map[int]bool{}, lastOfQueue: map[int]int{}} }

func (s *seen) add(messages []*primitive.MessageExt) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for _, message := range messages {
		number, err := strconv.Atoi(string(message.Body))
		if err != nil {
			s.disorder = err.Error()
			return
		}
		queue := message.Queue.QueueId
		if last, present := s.lastOfQueue[queue]; present && last >= number {
			s.disorder = fmt.Sprintf("queue %d: %d after %d", queue, number, last)
		}
		s.lastOfQueue[queue] = number
		s.numbers[number] = true
	}
}

// of counts the numbers from..from+wave that were seen.
func (s *seen) of(from int) int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	count := 0
	for number := from; number < from+wave; number++ {
		if s.numbers[number] {
			count++
		}
	}
	return count
}

func (s *seen) has(number int) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.numbers[number]
}

func (s *seen) queues() int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return len(s.lastOfQueue)
}

func union(one, two *seen, from int) func() bool {
	return func() bool {
		for number := from; number < from+wave; number++ {
			if !one.has(number) && !two.has(number) {
				return false
			}
		}
		return true
	}
}

func start(c *clients, name, topic string, into *seen, options ...consumer.Option) (rocketmq.PushConsumer, error) {
	push, err := c.consumer(name, options...)
	if err != nil {
		return nil, err
	}
	if err := push.Subscribe(topic, consumer.MessageSelector{}, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		into.add(messages)
		return consumer.ConsumeSuccess, nil
	}); err != nil {
		return nil, err
	}
	return push, push.Start()
}

func sendWave(p rocketmq.Producer, topic string, from int) error {
	for number := from; number < from+wave; number++ {
		message := primitive.NewMessage(topic, []byte(strconv.Itoa(number)))
		message.WithProperty("number", strconv.Itoa(number))
		if _, err := p.SendSync(context.Background(), message); err != nil {
			return err
		}
	}
	return nil
}

// rebalance: one instance takes a first wave, two share a second, the remaining one takes a third.
func rebalance(c *clients, name string, orderly bool) error {
	topic := c.topic(name)
	p, err := c.producer(name, byNumber{})
	if err != nil {
		return err
	}
	defer p.Shutdown()
	first, second := newSeen(), newSeen()
	one, err := start(c, name, topic, first, consumer.WithConsumerOrder(orderly))
	if err != nil {
		return err
	}
	if err := sendWave(p, topic, 0); err != nil {
		return err
	}
	if err := await(30*time.Second, "the first wave at one instance", func() bool { return first.of(0) == wave }); err != nil {
		return err
	}
	two, err := start(c, name, topic, second, consumer.WithConsumerOrder(orderly))
	if err != nil {
		return err
	}
	defer two.Shutdown()
	// The queues change hands some time after the second instance's first heartbeat: send until both receive.
	from := wave
	deadline := time.Now().Add(100 * time.Second)
	for {
		if err := sendWave(p, topic, from); err != nil {
			return err
		}
		// This client does not unlock the queues that it hands over ("TODO orderly" in its push_consumer.go): the broker's lock has to expire (60 s), and
		// the next rebalance of the new owner (20 s) to come.
		if err := await(100*time.Second, "a wave at two instances", union(first, second, from)); err != nil {
			return err
		}
		shared := first.of(from) > 0 && second.of(from) > 0
		from += wave
		if shared {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the queues were never shared")
		}
		time.Sleep(200 * time.Millisecond)
	}
	if err := one.Shutdown(); err != nil {
		return err
	}
	if err := sendWave(p, topic, from); err != nil {
		return err
	}
	if err := await(100*time.Second, "the last wave at the remaining instance", func() bool {
		return union(first, second, from)() && second.queues() == 4
	}); err != nil {
		return err
	}
	if orderly && first.disorder+second.disorder != "" {
		return fmt.Errorf("%s %s", first.disorder, second.disorder)
	}
	return nil
}

func broadcast(c *clients) error {
	topic := c.topic("broadcast")
	p, err := c.producer("broadcast", byNumber{})
	if err != nil {
		return err
	}
	defer p.Shutdown()
	if err := sendWave(p, topic, 0); err != nil {
		return err
	}
	// A broadcasting instance keeps its offsets in a file of its group; its own group's file must not outlive the run, so the group is the prefix's.
	all := []*seen{newSeen(), newSeen()}
	for _, into := range all {
		push, err := start(c, "broadcast", topic, into, consumer.WithConsumerModel(consumer.BroadCasting))
		if err != nil {
			return err
		}
		defer push.Shutdown()
	}
	if err := sendWave(p, topic, wave); err != nil {
		return err
	}
	for _, into := range all {
		if err := await(45*time.Second, "every message at every instance", func() bool { return into.of(0) == wave && into.of(wave) == wave }); err != nil {
			return err
		}
	}
	return nil
}

func pull(c *clients) error {
	topic := c.topic("pull")
	p, err := c.producer("pull", byNumber{})
	if err != nil {
		return err
	}
	defer p.Shutdown()
	if err := sendWave(p, topic, 0); err != nil {
		return err
	}
	resolver := primitive.NewPassthroughResolver([]string{c.nameServer})
	tools, err := admin.NewAdmin(admin.WithResolver(resolver))
	if err != nil {
		return err
	}
	defer tools.Close()
	queues, err := tools.FetchPublishMessageQueues(context.Background(), topic)
	if err != nil {
		return err
	}
	puller, err := rocketmq.NewPullConsumer(consumer.WithNsResolver(resolver), consumer.WithGroupName(c.group("pull")), consumer.WithInstance(c.instance()))
	if err != nil {
		return err
	}
	if err := puller.Subscribe(topic, consumer.MessageSelector{}); err != nil {
		return err
	}
	if err := puller.Start(); err != nil {
		return err
	}
	defer puller.Shutdown()
	numbers := map[string]bool{}
	for _, queue := range queues {
		offset := int64(0)
		// The pull at the end of a queue would wait at the broker, so it is not made.
		for end := int64(1); offset < end; {
			result, err := puller.PullFrom(context.Background(), queue, offset, 32)
			if err != nil {
				return err
			}
			end = result.MaxOffset
			if result.Status != primitive.PullFound {
				return fmt.Errorf("status %d, max %d, offset %d", result.Status, result.MaxOffset, offset)
			}
			for _, message := range result.GetMessageExts() {
				if message.QueueOffset != offset {
					return fmt.Errorf("offset %d at %d", message.QueueOffset, offset)
				}
				offset++
				numbers[string(message.Body)] = true
			}
			if result.NextBeginOffset != offset {
				return fmt.Errorf("next %d at %d", result.NextBeginOffset, offset)
			}
		}
	}
	if len(numbers) != wave {
		return fmt.Errorf("pulled %d", len(numbers))
	}
	return nil
}
